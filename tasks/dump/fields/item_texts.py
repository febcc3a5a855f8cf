"""Item metadata: texts, and categories as lists of texts.

A column with nearly all values lists written as text is a column of lists.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import polars as pl

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
class TextShape:
    """How many of a column's texts are lists or objects, and which words mean nothing."""

    name: str
    values: int = 0
    lists: int = 0
    objects: int = 0
    quoted: int = 0
    """Lists of quoted texts among other texts."""
    words: Counter[str] = field(default_factory=Counter)
    shown: dict[str, str] = field(default_factory=dict)

    def see(self, values: pl.Series) -> pl.Series:
        """Inspects texts; returns them with null for null words."""
        is_word = values.str.contains(null_pattern(self.name)).fill_null(value=False)
        if is_word.any():
            self.words.update(dict(values.filter(is_word).value_counts().iter_rows()))
            values = values.clone().set(is_word, None)
        known = values.filter((values.str.strip_chars() != "").fill_null(value=False))
        tried = known.gather_every(max(1, len(known) // TRIED))
        self.values += len(tried)
        for text in tried.filter(tried.str.contains(BRACKETED)):
            if is_object(text):
                self.objects += 1
                self.shown.setdefault("object", text[:_SHOWN])
            elif listed(text) is not None:
                self.lists += 1
                self.shown.setdefault("list", text[:_SHOWN])
        return values

    def are_lists(self) -> bool:
        return self.lists > 0 and self.lists >= LIST_SHARE * self.values

    def notes(self) -> list[str]:
        said = []
        if self.are_lists():
            said.append(f"texts such as {self.shown['list']!r} are read as lists")
        if self.quoted:
            said.append(
                f"{self.quoted:,} texts such as {self.shown['quoted']!r} among others are read as "
                "lists"
            )
        if self.words:
            words = ", ".join(f"{word!r} ({n:,})" for word, n in self.words.most_common(3))
            said.append(f"words for no value are left out: {words}")
        return said

    def is_repaired(self) -> bool:
        return bool(self.are_lists() or self.quoted or self.words)

    def fault(self) -> str | None:
        if self.objects and self.objects >= LIST_SHARE * self.values:
            return (
                f"holds objects such as {self.shown['object']!r} and no text; write the field that "
                "you mean as a column of its own"
            )
        return None


@dataclass
class _ShapedField:
    """Common part of columns of texts and of lists: detection of their format."""

    name: str
    is_list: bool | None = None
    shape: TextShape = field(init=False)

    def __post_init__(self) -> None:
        self.shape = TextShape(self.name)

    def _seen(self, values: pl.Series) -> pl.Series:
        """Returns the texts; the first batch decides whether they are lists written as text."""
        texts = self.shape.see(values.cast(pl.String))
        if self.is_list is None and self.shape.values:
            self.is_list = self.shape.are_lists()
        return texts

    def is_settled(self) -> bool:
        return self.shape.are_lists() == bool(self.is_list)

    def fresh(self) -> Self:
        return type(self)(self.name, self.shape.are_lists())

    def notes(self) -> list[str]:
        return self.shape.notes()

    def is_repaired(self) -> bool:
        return self.shape.is_repaired()

    def fault(self) -> str | None:
        return self.shape.fault()


class TextField(_ShapedField):
    """Reads a column of texts; lists of paragraphs are joined."""

    def read(self, values: pl.Series) -> pl.Series:
        """Returns truncated texts, null if empty."""
        if isinstance(values.dtype, pl.List):
            texts = _flat(values).list.join(" ", ignore_nulls=True)
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
            lists = _flat(values)
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
        self.shape.quoted += sum(value is not None for value in found.values())
        values = lists.to_list()
        for place, value in found.items():
            if value is not None:
                self.shape.shown.setdefault("quoted", texts[place][:_SHOWN])
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
