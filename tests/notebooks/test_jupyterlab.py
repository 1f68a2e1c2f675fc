"""Chapters in a real JupyterLab, on a machine without CIFAR-100: they run to their end and read as their pages do."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.book
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
TOKEN = "only-in-this-test"
MINUTE = 60_000
#: Every cell is in the document, also one that is not on the screen.
SETTINGS = '{"windowingMode": "none"}'
#: JavaScript: whether the kernel is there and has nothing to do.
IDLE = """() => /\\| Idle/.test(document.querySelector("#jp-main-statusbar")?.textContent)"""
#: JavaScript: whether every code cell has run.
FINISHED = """() => {
  const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputArea-prompt")].map((e) => e.textContent.trim());
  return prompts.length > 3 && prompts.every((text) => /^\\[\\d+\\]:$/.test(text));
}"""

#: JavaScript: pictures that are not there.
BROKEN = """() => [...document.querySelectorAll(".jp-Notebook img")]
  .filter((i) => !i.naturalWidth).map((i) => i.outerHTML)"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab with the notebooks, without their outputs and without data sets; it has a token."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    for chapter in CHAPTERS:
        notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / "notebooks" / f"{chapter}.ipynb")
    place = folder / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    place.parent.mkdir(parents=True)
    place.write_text(SETTINGS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--port-retries=0",
        f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={TOKEN}",
        f"--LabApp.user_settings_dir={folder / 'settings'}", f"--LabApp.workspaces_dir={folder / 'workspaces'}",
    ]  # fmt: skip
    nowhere = {
        "KDLIB_DATA": str(folder),
        "KDLIB_RUNS": str(folder / "runs"),
        "JUPYTER_CONFIG_DIR": str(folder / "none"),
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | nowhere, stdout=log, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(f"{address}/api/status?token={TOKEN}", process, folder / "log")
            yield address
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:  # it waits for a kernel
                process.kill()


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    """Until the server answers, for a minute at most."""
    for _ in range(120):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def opened(browser: Any, server: str) -> Callable[[str], Any]:
    """opened(chapter): its page in JupyterLab, all cells run through the menu."""

    def run(chapter: str) -> Any:
        page = browser.new_context(viewport={"width": 1300, "height": 900}).new_page()
        page.goto(f"{server}/lab/tree/notebooks/{chapter}.ipynb?token={TOKEN}&reset")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=MINUTE)
        page.wait_for_function(IDLE, timeout=MINUTE)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_function(FINISHED, timeout=5 * MINUTE)
        return page

    return run


def check_reads_as_its_page(page: Any, chapter: str) -> None:
    """No role of the pages, no error, and no picture lost that the published chapter has."""
    text = page.locator(".jp-Notebook").inner_text()
    assert len(text) > 1000
    assert not re.findall(r"\{(?:glue|cite|doc|numref|ref|term)[:}`]\S*", text)
    assert "Traceback" not in text and not page.locator('[data-mime-type="application/vnd.jupyter.error"]').count()
    published = (ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8")
    assert text.count("This picture: needs") == published.count("*This picture: needs")
    assert page.evaluate(BROKEN) == []


def test_a_stranger_without_the_token_is_not_let_in(server: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{server}/api/contents", timeout=5)


def test_the_tour_runs_and_its_slider_changes_the_picture(opened: Callable[[str], Any]) -> None:
    page = opened("00_tour")
    check_reads_as_its_page(page, "00_tour")
    box = page.locator(".jp-OutputArea .widget-vbox").filter(has=page.locator(".noUi-handle")).first
    picture = box.locator("img")
    before = picture.get_attribute("src")
    box.locator(".noUi-handle").press("ArrowRight")
    page.wait_for_function("([e, before]) => e.src !== before", arg=[picture.element_handle(), before], timeout=MINUTE)
    page.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_runs_and_reads_as_its_page(opened: Callable[[str], Any], chapter: str) -> None:
    page = opened(chapter)
    check_reads_as_its_page(page, chapter)
    page.context.close()
