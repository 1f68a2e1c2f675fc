"""Runs pip-audit on a list of versions; where the service that knows of weaknesses cannot be reached, one sentence says
so instead of a traceback. `make audit` runs it, without any package of the project.

python tests/audit.py PIP_AUDIT VERSIONS
"""

import re
import subprocess
import sys
import textwrap

#: The last line of a traceback in which pip-audit ends without a network.
UNREACHED = re.compile(r"^(requests\.exceptions|urllib3\.exceptions)\.(\w+): (.*)$")


def main(program: str, versions: str) -> int:
    """pip-audit's exit status, with what it says; 2 if it could not ask."""
    call = [program, "--strict", "--no-deps", "--disable-pip", "-r", versions]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    last = (done.stderr.strip().splitlines() or [""])[-1]
    if done.returncode and (found := UNREACHED.match(last)):
        reason = textwrap.shorten(f"{found[2]}: {found[3]}", 160)
        said = f"the service that knows of weak versions cannot be reached ({reason}): try again with a network"
        print(f"Nothing was audited, since {said}.", file=sys.stderr)
        return 2
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    if "could not be audited" in last:
        print("If that package is on PyPI, a mirror answered that does not know of weak versions.", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
