"""Writes ``requirements-hashed.txt``: the pins of ``constraints.txt`` with the SHA-256 of each file
that the package index has of them. ``make lock`` runs it.

Of packages that come from another index (torch's CPU build) the digests are written by hand, and
taken over from the file as it is.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PINS, LOCK = ROOT / "constraints.txt", ROOT / "requirements-hashed.txt"
HEADER = """\
# The pins of constraints.txt with the SHA-256 of their files: `make locked` installs them. Written
# by `make lock`, but for torch: the CPU build for Python 3.11, x86-64, from PyTorch's own index.
"""
ELSEWHERE = frozenset({"torch"})
_PIN = re.compile(r"^(\S+==\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)", re.MULTILINE)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def main() -> None:
    written = subprocess.run(
        [
            *(Path(sys.executable).with_name("uv"), "pip", "compile", "--quiet", "--no-deps"),
            *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"),
            *("--python-version", "3.11.7", PINS),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if written.returncode:
        sys.exit(f"the pins could not be looked up in the package index:\n{written.stderr}")
    before = digests_in(LOCK.read_text("utf-8")) if LOCK.exists() else {}
    found = digests_in(written.stdout)
    lines = [HEADER]
    for pin, digests in found.items():
        if pin.partition("==")[0] in ELSEWHERE:
            digests = before.get(pin, set())
        if not digests:
            sys.exit(f"{pin}: write the SHA-256 of its file into {LOCK.name}, then run this again")
        hashes = sorted(digests)
        lines.append(" \\\n".join([pin, *(f"    --hash=sha256:{each}" for each in hashes)]) + "\n")
    LOCK.write_text("".join(lines), "utf-8")
    print(f"{LOCK.name}: {len(found)} pins")


def digests_in(text: str) -> dict[str, set[str]]:
    """Returns the digests of each pin."""
    return {pin: set(_DIGEST.findall(hashes)) for pin, hashes in _PIN.findall(text)}


if __name__ == "__main__":
    main()
