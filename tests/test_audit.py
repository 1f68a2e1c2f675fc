"""What `make audit` says: what pip-audit finds, or in one sentence that nothing could be asked."""

import re
import stat
import sys
from pathlib import Path

import pytest

from tests.audit import main

TRACEBACK = """Traceback (most recent call last):
  File "pip_audit/_cli.py", line 554, in audit
    for spec, vulns in auditor.audit(source):
requests.exceptions.ConnectionError: HTTPSConnectionPool(host='pypi.org', port=443): Max retries exceeded with url: /a
"""
BROKEN = "Traceback (most recent call last):\n  File 'x'\nKeyError: 'vulns'\n"


@pytest.fixture
def program(tmp_path):
    """program(status, out, err): the path of one that takes pip-audit's place."""

    def make(status: int, out: str, err: str) -> str:
        path: Path = tmp_path / "pip-audit"
        lines = ["import sys", f"sys.stdout.write({out!r})", f"sys.stderr.write({err!r})", f"sys.exit({status})"]
        path.write_text("\n".join([f"#!{sys.executable}", *lines]))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return make


def test_a_service_that_cannot_be_reached_is_one_sentence(program, capsys):
    assert main(program(1, "", TRACEBACK), "versions.txt") == 2
    said = capsys.readouterr()
    assert said.out == "" and re.fullmatch(
        r"Nothing was audited, since the service .* cannot be reached "
        r"\(ConnectionError: HTTPSConnectionPool\(host='pypi.*\): try again with a network\.\n",
        said.err,
    )


def test_a_package_that_is_not_found_may_be_the_fault_of_a_mirror(program, capsys):
    said = "ERROR:pip_audit._cli:a: Dependency not found on PyPI and could not be audited: a (1.0)\n"
    assert main(program(1, "", said), "versions.txt") == 1
    err = capsys.readouterr().err
    assert err.startswith(said) and err.endswith("a mirror answered that does not know of weak versions.\n")


@pytest.mark.parametrize(
    ("status", "out", "err"),
    [
        (0, "", "No known vulnerabilities found\n"),
        (1, "Name Version ID Fix Versions\n", "Found 1 known vulnerability\n"),
        (1, "", BROKEN),
    ],
)
def test_everything_else_is_passed_on(program, capsys, status, out, err):
    assert main(program(status, out, err), "versions.txt") == status
    assert tuple(capsys.readouterr()) == (out, err)
