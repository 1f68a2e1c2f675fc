"""Folders that environment variables name."""

import re
from pathlib import Path

import pytest

from kdlib.data import images, paths

PLACES = {
    "KDLIB_DATA": paths.data_root, "KDLIB_CHECKPOINTS": paths.checkpoint_root, "KDLIB_CACHE": paths.cache_root,
    "KDLIB_BANKS": paths.bank_root, "KDLIB_ANSWERS": paths.answers_root, "KDLIB_RESULTS": paths.results_root,
    "KDLIB_RUNS": paths.runs_root,
}  # fmt: skip


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has no home folder, as in some containers."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])


@pytest.mark.parametrize("variable", PLACES)
def test_a_place_below_home_is_found_or_refused_by_name(monkeypatch, tmp_path: Path, variable: str):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/there")
    assert PLACES[variable]() == (tmp_path / "there").resolve()
    monkeypatch.setenv(variable, "~nobody-of-that-name/there")
    with pytest.raises(ValueError, match=rf"^{variable} = '~nobody-of-that-name/there' has a home folder that is not"):
        PLACES[variable]()


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("variable", PLACES)
def test_without_a_home_folder_a_place_is_named_from_the_root(monkeypatch, tmp_path: Path, variable: str):
    monkeypatch.setenv(variable, "~/there")
    with pytest.raises(ValueError, match=f"^{variable} = '~/there' has a home folder that is not known: write it from"):
        PLACES[variable]()
    monkeypatch.setenv(variable, str(tmp_path))
    assert PLACES[variable]() == tmp_path.resolve()


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("name", ["folder:~/images", "photos:~/images"])
def test_a_data_set_below_a_home_that_is_not_known_is_refused(name: str):
    kind, path = name.split(":")
    for ask in (images.check_name, images.available, images.load_data):
        with pytest.raises(ValueError, match=re.escape(f"{kind} = '{path}' has a home folder that is not known")):
            ask(name)
