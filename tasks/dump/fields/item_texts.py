"""Item metadata: texts, and categories as lists of texts.

A column with nearly all values lists written as text is a column of lists.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import polars as pl

from tasks.dump.fields.field import FieldReader
from tasks.dump.fields.null_words import null_pattern
from tasks.dump.fields.text_lists import BRACKETED, is_object, listed, quoted_list

LONGEST_TEXT = 2_000
"""Maximum characters of an item's text, more than prompts use."""

LIST_SHARE = 0.9
"""Minimum share of lists in a column of lists."""

TRIED = 1_000
"""Values per batch that are inspected for lists or objects."""

_SHOWN = 60


@dataclass
class _ShapedField(FieldReader):
    """Common part of columns of texts and of lists: counts of texts that are lists or objects, and
    words for missing values."""

    name: str
    is_list: bool | None = None
    """Whether texts are read as lists; None before the first values."""

    _values: int = 0
    _lists: int = 0
    _objects: int = 0
    _quoted: int = 0
    """Lists of quoted texts among other texts."""
    _words: Counter[str] = field(default_factory=Counter)
    _shown: dict[str, str] = field(default_factory=dict)

    def is_settled(self) -> bool:
        return self._are_lists() == bool(self.is_list)

    def fresh(self) -> Self:
        return type(self)(self.name, self._are_lists())

    def notes(self) -> list[str]:
        said = []
        if self._are_lists():
            said.append(f"texts such as {self._shown['list']!r} are read as lists")
        if self._quoted:
            said.append(
                f"{self._quoted:,} texts such as {self._shown['quoted']!r} among others are read "
                "as lists"
            )
        if self._words:
            words = ", ".join(f"{word!r} ({n:,})" for word, n in self._words.most_common(3))
            said.append(f"words for no value are left out: {words}")
        return said

    def is_repaired(self) -> bool:
        return bool(self._are_lists() or self._quoted or self._words)

    def fault(self) -> str | None:
        if self._objects and self._objects >= LIST_SHARE * self._values:
            return (
                f"holds objects such as {self._shown['object']!r} and no text; write the field "
                "that you mean as a column of its own, or name it as PARENT.FIELD, in lists as "
                f"PARENT[].FIELD: --column PARENT.FIELD={self.name}"
            )
        return None

    def _seen(self, values: pl.Series) -> pl.Series:
        """Returns the texts, null for null words; the first batch decides whether they are lists
        written as text."""
        texts = values.cast(pl.String)
        is_word = texts.str.contains(null_pattern(self.name)).fill_null(value=False)
        if is_word.any():
            self._words.update(dict(texts.filter(is_word).value_counts().iter_rows()))
            texts = texts.clone().set(is_word, None)
        known = texts.filter((texts.str.strip_chars() != "").fill_null(value=False))
        tried = known.gather_every(max(1, len(known) // TRIED))
        self._values += len(tried)
        for text in tried.filter(tried.str.contains(BRACKETED)):
            if is_object(text):
                self._objects += 1
                self._shown.setdefault("object", text[:_SHOWN])
            elif listed(text) is not None:
                self._lists += 1
                self._shown.setdefault("list", text[:_SHOWN])
        if self.is_list is None and self._values:
            self.is_list = self._are_lists()
        return texts

    def _flat(self, values: pl.Series) -> pl.Series:
        """Returns lists of texts; counts the objects in them."""
        lists = _flat(values)
        texts = lists.explode().drop_nulls()
        tried = texts.gather_every(max(1, len(texts) // TRIED))
        self._values += len(tried)
        for text in filter(is_object, tried.filter(tried.str.starts_with("{"))):
            self._objects += 1
            self._shown.setdefault("object", text[:_SHOWN])
        return lists

    def _are_lists(self) -> bool:
        return self._lists > 0 and self._lists >= LIST_SHARE * self._values


class TextField(_ShapedField):
    """Reads a column of texts; lists of paragraphs are joined."""

    def read(self, values: pl.Series) -> pl.Series:
        """Returns truncated texts, null if empty."""
        if isinstance(values.dtype, pl.List):
            texts = self._flat(values).list.join(" ", ignore_nulls=True)
        else:
            texts = self._seen(values)
            if self.is_list:
                texts = pl.Series(map(_joined, texts.to_list()), dtype=pl.String)
        cut = texts.str.replace_all("\x00", "", literal=True).str.head(LONGEST_TEXT)
        stripped = cut.str.strip_chars()
        return stripped.set(stripped == "", None).alias(self.name)


class ListField(_ShapedField):
    """Reads a column of lists: lists, lists of paths, lists as text, or text split at ``|``."""

    def read(self, values: pl.Series) -> pl.Series:
        """Returns lists of non-empty texts."""
        if isinstance(values.dtype, pl.List):
            lists = self._flat(values)
        else:
            texts = self._seen(values)
            lists = (
                pl.Series(map(_parts, texts.to_list()), dtype=pl.List(pl.String))
                if self.is_list
                else self._split(texts)
            )
        element = pl.element().str.strip_chars()
        is_word = element.str.contains(null_pattern(self.name))
        kept = pl.when((element != "") & ~is_word).then(element).drop_nulls()
        return lists.list.eval(kept).alias(self.name)

    def _split(self, texts: pl.Series) -> pl.Series:
        """Splits texts at ``|``, except lists of quoted texts."""
        lists = texts.str.split("|")
        places = texts.str.contains(BRACKETED).fill_null(value=False).arg_true()
        found = {place: quoted_list(texts[place]) for place in places}
        if not any(value is not None for value in found.values()):
            return lists
        self._quoted += sum(value is not None for value in found.values())
        values = lists.to_list()
        for place, value in found.items():
            if value is not None:
                self._shown.setdefault("quoted", texts[place][:_SHOWN])
                values[place] = value
        return pl.Series(values, dtype=pl.List(pl.String))


def _flat(values: pl.Series) -> pl.Series:
    """Returns lists of texts from nested lists."""
    while isinstance(values.dtype, pl.List) and isinstance(values.dtype.inner, pl.List):
        values = values.list.eval(pl.element().explode())
    return values.cast(pl.List(pl.String))


def _joined(text: str | None) -> str | None:
    found = None if text is None else listed(text)
    return text if found is None else " ".join(found)


def _parts(text: str | None) -> list[str] | None:
    if text is None:
        return None
    found = listed(text)
    return text.split("|") if found is None else found
