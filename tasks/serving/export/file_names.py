"""Safe file names for arbitrary domain names."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from artifacts.fingerprint import fingerprint_of

LONGEST = 48
"""Maximum bytes of the readable part; file systems allow 255 in total."""

_PLAIN = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST - 1}}}")
_OTHERS = re.compile(r"[^A-Za-z0-9._-]+")


def file_names(names: Sequence[str]) -> list[str]:
    """Returns a safe, short file name for each of distinct names, without an ending.

    Simple names are unchanged. Long names, names with other characters, and names that differ in
    case only get a hash as suffix.
    """
    folded = Counter(name.casefold() for name in names)
    return [
        name if _PLAIN.fullmatch(name) and folded[name.casefold()] == 1 else _with_hash(name)
        for name in names
    ]


def _with_hash(name: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    shown = _OTHERS.sub("-", ascii_only).strip(".-_")[:LONGEST] or "domain"
    return f"{shown}-{fingerprint_of(name)}"
