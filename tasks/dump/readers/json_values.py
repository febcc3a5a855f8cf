"""Streaming of JSON values from an array or from multi-line objects.

Files are read in blocks, except arrays of Python literals; memory holds one block and one value.
"""

import ast
import codecs
import json
import warnings
from collections.abc import Iterator

from artifacts.shown_users import quoted
from tasks.dump.readers.column_types import NOT_UTF8
from tasks.dump.sources.files import BLOCK_BYTES, LONGEST_LINE, UnreadableDumpError, Utf8File

NOT_AN_OBJECT = "not a JSON object"

TWICE = "a field twice with different values"

_NAMES = ("name", "title", "label", "value")
"""Fields of objects in lists that contain their name."""

LONGEST_LITERAL = 1 << 26
"""Maximum characters of an array of Python literals, which is parsed as a whole."""

RawObject = dict[str, object]
Found = tuple[RawObject | None, str]
"""An object, or the reason of its absence."""

_BETWEEN = " \t\r\n,[]"
_SHOWN = 60


def name_in(object_: RawObject) -> object | None:
    """Returns the name of an object in a list, None without one."""
    return next((object_[name] for name in _NAMES if object_.get(name) is not None), None)


class AmbiguousObject(RawObject):
    """An object with fields of one name and different values, of which it has the last.

    ``fields``: their names.
    """

    fields: frozenset[str] = frozenset()


def _object_of(pairs: list[tuple[str, object]]) -> RawObject:
    """Returns the object of a list of fields."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: RawObject = {}
    twice = {name for name, value in pairs if seen.setdefault(name, value) != value}
    if not twice:
        return found
    ambiguous = AmbiguousObject(found)
    ambiguous.fields = frozenset(twice)
    return ambiguous


_DECODER = json.JSONDecoder(object_pairs_hook=_object_of)


def is_one_object_a_line(start: bytes) -> bool:
    """Returns whether a file has one object per line, by its beginning; else it is an array or has
    multi-line objects."""
    text = start.decode("utf-8", "replace").lstrip()
    first, _, others = text.partition("\n")
    if isinstance(parsed(first), dict):
        return True
    if text.startswith("["):
        second = others.lstrip().partition("\n")[0]
        return isinstance(parsed(first), list) and isinstance(parsed(second), dict)
    try:
        value, _ = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        return not _may_go_on(error, text)  # An object may be longer than the beginning.
    except RecursionError:
        return True
    return not isinstance(value, dict)


def objects_of(file: Utf8File, path: str) -> Iterator[Found]:
    """Yields the objects of an array, or of a stream of values.

    Raises:
        UnreadableDumpError: invalid or truncated JSON.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    text, place, passed, is_first, is_whole = "", 0, 0, True, False
    while True:
        place = _next_value(text, place)
        if place < len(text):
            try:
                value, end = _DECODER.raw_decode(text, place)
            except RecursionError:
                raise UnreadableDumpError(
                    f"{path} cannot be read: its values are nested too deeply"
                ) from None
            except json.JSONDecodeError as error:
                if is_first and (values := _literals(file, decoder, text, error)) is not None:
                    yield from (_found(value, "") for value in values)
                    return
                if is_whole or not _may_go_on(error, text):
                    raise UnreadableDumpError(
                        _broken(path, text, place, passed, error, is_whole)
                    ) from None
            else:
                # A number at the end of a block may continue in the next.
                if is_whole or end < len(text):
                    yield _found(value, text[place:end])
                    place, is_first = end, False
                    continue
        elif is_whole:
            return
        text, passed, place = text[place:], passed + place, 0
        if len(text) > LONGEST_LINE:
            raise UnreadableDumpError(
                f"{path} cannot be read: a value has over {LONGEST_LINE:,} bytes"
            )
        block = file.read(BLOCK_BYTES)
        is_whole = not block
        text += decoder.decode(block, final=is_whole)


def parsed(text: str | bytes) -> object:
    """Returns a JSON value or a Python literal, None otherwise; without evaluation."""
    try:
        return json.loads(text, object_pairs_hook=_object_of)
    except (ValueError, RecursionError):
        return literal(text)


def literal(text: str | bytes) -> object:
    """Returns a Python literal, None otherwise; without evaluation."""
    try:
        source = text.decode() if isinstance(text, bytes) else text
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Invalid escapes in literals.
            return ast.literal_eval(source.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _next_value(text: str, place: int) -> int:
    while place < len(text) and text[place] in _BETWEEN:
        place += 1
    return place


def _found(value: object, text: str) -> Found:
    if not isinstance(value, dict):
        return None, NOT_AN_OBJECT
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # Bytes that are not UTF-8.
            return None, NOT_UTF8
    return value, ""


def _literals(
    file: Utf8File, decoder: codecs.IncrementalDecoder, text: str, error: json.JSONDecodeError
) -> list[object] | None:
    """Returns the values of an array of Python literals, None otherwise."""
    if not text.lstrip().startswith("[") or _may_go_on(error, text):
        return None
    while len(text) <= LONGEST_LITERAL and (block := file.read(BLOCK_BYTES)):
        text += decoder.decode(block)
    values = literal(text) if len(text) <= LONGEST_LITERAL else None
    return values if isinstance(values, list) else None


def _may_go_on(error: json.JSONDecodeError, text: str) -> bool:
    """Returns whether more input could resolve the error."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(text) - 16


def _broken(
    path: str, text: str, place: int, passed: int, error: json.JSONDecodeError, is_whole: bool
) -> str:
    if is_whole and _may_go_on(error, text):
        return (
            f"{path} cannot be read: it ends in the middle of a value, "
            f"{quoted(text[place:][:_SHOWN])}…, as after an interrupted download; fetch it again"
        )
    around = text[max(place, error.pos - _SHOWN // 2) : error.pos + _SHOWN // 2]
    return (
        f"{path} cannot be read: its JSON is not valid at character {passed + error.pos:,} "
        f"({error.msg.lower()}), near {quoted(around)}; export it again, one object per line"
    )
