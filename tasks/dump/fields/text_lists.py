"""Parsing of lists written as text (JSON, Python, NumPy, R, Postgres, DuckDB), without
evaluation."""

import csv
import io
import json
import re
import tokenize
from itertools import pairwise

from tasks.dump.readers.json_values import literal, name_in, parsed

_SCALA = "List|Set|Array|WrappedArray|ArrayBuffer"
_PYTHON = "set|frozenset|array|list|tuple"

BRACKETED = rf"(?s)^\s*(?:\[.*\]|\{{.*\}}|\(.*\)|(?:c|{_SCALA}|{_PYTHON})\(.*\)|\"\[.*\]\")\s*$"
"""Polars pattern of texts that may be lists."""

_CALLED = re.compile(rf"(?s)(?:{_SCALA})\((.*)\)")
"""Lists as printed by Scala and Spark."""

_OF_PYTHON = re.compile(rf"(?s)(?:{_PYTHON})\(([\[{{(].*[\]}})])(?:,\s*dtype=[^()]*)?\)")

_QUOTED = re.compile(r"""(?s)\s*\[\s*(?:"[^"]*"|'[^']*')\s*(?:,.*)?\]\s*$""")

_OF_TOKENIZE = (tokenize.TokenError, IndentationError, SyntaxError)


def listed(text: str) -> list[str] | None:
    """Returns the texts of a list, None if the text is not a list."""
    text = text.strip()
    if text.startswith("c(") and text.endswith(")"):
        return _strings(text[1:])
    if called := _CALLED.fullmatch(text):
        return _separated(called[1])
    if of_python := _OF_PYTHON.fullmatch(text):
        return listed(of_python[1])
    if text.startswith('"['):
        inner = parsed(text)  # A list serialised twice.
        return listed(inner) if isinstance(inner, str) else None
    if text[:1] + text[-1:] not in ("[]", "()", "{}"):
        return None
    found = _as_json(text)
    if isinstance(found, dict):
        return None if found else []
    if found is not None:
        return _texts(found)
    if (strings := _strings(text)) is not None:
        return strings
    return None if text.startswith("(") else _separated(text[1:-1])


def quoted_list(text: str) -> list[str] | None:
    """Returns the texts of a list of quoted texts, None otherwise; such lists are unambiguous."""
    return listed(text) if _QUOTED.match(text) else None


def is_object(text: str) -> bool:
    """Returns whether a text is an object with named fields."""
    found = parsed(text) if text.lstrip().startswith("{") else None
    return isinstance(found, dict) and bool(found)


def _as_json(text: str) -> list[object] | dict[str, object] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return _as_literal(text)
    return found if isinstance(found, (list, dict)) else None


def _as_literal(text: str) -> list[object] | dict[str, object] | None:
    """Parses a Python literal, but not NumPy's format, whose adjacent strings would be joined."""
    found = literal(text)
    if isinstance(found, dict):
        return found
    if not isinstance(found, (list, tuple)) or _has_strings_side_by_side(text):
        return None
    return list(found)


def _tokens(text: str) -> list[tokenize.TokenInfo]:
    try:
        found = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except _OF_TOKENIZE:
        return []
    ignored = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    return [token for token in found if token.type not in ignored]


def _has_strings_side_by_side(text: str) -> bool:
    tokens = _tokens(text)
    return any(one.type == other.type == tokenize.STRING for one, other in pairwise(tokens))


def _strings(text: str) -> list[str] | None:
    """Returns the strings of a text that otherwise contains brackets and commas only."""
    tokens = _tokens(text)
    strings = [token.string for token in tokens if token.type == tokenize.STRING]
    marks = {token.string for token in tokens if token.type != tokenize.STRING}
    if not strings or not marks <= {"[", "]", "(", ")", "{", "}", ",", "", "None", "nan"}:
        return None
    found = [literal(string) for string in strings]
    return [text for text in found if isinstance(text, str)]


def _separated(inner: str) -> list[str] | None:
    """Parses lists of Postgres and DuckDB: comma-separated texts, quoted if necessary."""
    if not inner.strip():
        return []
    try:
        rows = list(csv.reader([inner], skipinitialspace=True, escapechar="\\"))
    except csv.Error:
        return None
    return [text.strip() for text in rows[0] if text.strip() not in ("", "NULL")]


def _texts(values: list[object]) -> list[str]:
    found = []
    for value in values:
        if isinstance(value, (list, tuple)):
            found += _texts(list(value))
        elif isinstance(value, dict):
            named = name_in(value)
            found += _texts([named]) if named is not None else []
        elif value is not None:
            found.append(str(value).encode("utf-8", "replace").decode())
    return found
