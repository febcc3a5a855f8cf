"""Ids and names of domains as text. Leading zeros of text are kept. Blanks and byte-order marks
around an id are stripped, and ``.0`` if a whole column has it, because number columns with gaps are
written as floats. Ids rounded by a spreadsheet (``1.00123E+15``) and ids with control characters
are invalid; removing control characters could yield another user's id."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import polars as pl

from artifacts import columns as col
from tasks.dump.fields.field import FieldReader
from tasks.dump.fields.null_words import null_pattern, words_of

_CONTAINER = r'^(\[(["\[{\d-]|null|true|false)|\{").*[\]}]$|^(\[\]|\{\})$'
"""A JSON list or object in place of an id."""

_CONTROL = r"[\x00-\x1f\x7f]"
_INVISIBLE = r"[\x{FEFF}\x{200B}]"
_AROUND = r"[\s\x{FEFF}\x{200B}]"
_ROUNDED = r"^-?\d(?:(?:\.\d+)?[eE]\+|[.,]\d+[eE])\d+$"
_WHOLE_FLOAT = r"^-?\d+\.0+$"

EXACT_FLOATS = 2.0**53
"""Largest integer that floats represent exactly."""


@dataclass
class IdField(FieldReader):
    """Reads a column of ids; ``name`` is the field's."""

    name: str
    strips_floats: bool | None = None
    """Whether ``.0`` is stripped; None before the first values."""

    _values: int = 0
    _floats: int = 0
    _words: Counter[str] = field(default_factory=Counter)
    _rounded: int = 0
    _controlled: int = 0
    _has_invisible: bool = False
    _contained: int = 0
    _shown: dict[str, str] = field(default_factory=dict)

    def read(self, values: pl.Series) -> pl.Series:
        """Returns ids as text, null where there is none."""
        if values.dtype.is_nested():
            return pl.Series(values.name, [None] * len(values), pl.String)
        if values.dtype.is_float():
            return self._of_floats(values)
        if values.dtype != pl.String:
            return values.cast(pl.String)
        blank = rf"^{_AROUND}|{_AROUND}$|^$|{null_pattern(self.name)}"
        is_odd = values.str.contains(rf"{_CONTROL}|^[\[{{]|{_ROUNDED}|{blank}")
        if is_odd.any():
            places = is_odd.fill_null(value=False).arg_true()
            values = values.clone().scatter(places, self._cleaned(values.gather(places)))
        self._look_for_floats(values)
        return values.str.replace(r"\.0+$", "") if self.strips_floats else values

    def is_settled(self) -> bool:
        return bool(self.strips_floats) == self._are_floats()

    def fresh(self) -> Self:
        return type(self)(self.name, self._are_floats())

    def notes(self) -> list[str]:
        said = []
        if self.strips_floats:
            text = self._example("float")
            said.append(f"ids all end in .0: {text!r} is read as {text.partition('.')[0]!r}")
        if self._words:
            words = ", ".join(f"{word!r} ({n:,})" for word, n in self._words.most_common(3))
            said.append(f"words for missing values are not ids: {words}")
        if self._rounded:
            said.append(
                f"{self._rounded:,} ids such as {self._example('rounded')!r} were truncated by a "
                "spreadsheet or a float; export the column as text"
            )
        if self._contained:
            said.append(
                f"{self._contained:,} values such as {self._example('contained')!r} are lists or "
                "objects, not ids: write one row per element"
            )
        if self._controlled:
            said.append(
                f"{self._controlled:,} ids such as {self._example('controlled')!r} have control "
                "characters: without them, two ids could become equal; export them again"
            )
        return said

    def is_repaired(self) -> bool:
        seen = self._words or self._rounded or self._controlled or self._has_invisible
        return bool(self.strips_floats or seen)

    def _cleaned(self, odd: pl.Series) -> pl.Series:
        texts = odd.str.replace_all(rf"^{_AROUND}+|{_AROUND}+$", "")
        self._has_invisible |= bool(odd.str.contains(_INVISIBLE).any())
        is_word = texts.is_in(list(words_of(self.name)))
        self._words.update(dict(texts.filter(is_word).value_counts().iter_rows()))
        is_rounded = texts.str.contains(_ROUNDED)
        self._count_rounded(texts.filter(is_rounded))
        is_controlled = texts.str.contains(_CONTROL)
        controlled = texts.filter(is_controlled)
        self._controlled += len(controlled)
        if len(controlled):
            self._shown.setdefault("controlled", controlled[0])
        useless = is_word | is_rounded | is_controlled | (texts == "")
        contained = texts.filter(is_container := texts.str.contains(_CONTAINER))
        self._contained += len(contained)
        if len(contained):
            self._shown.setdefault("contained", contained[0])
        useless |= is_container
        return texts.set(useless, None)

    def _of_floats(self, values: pl.Series) -> pl.Series:
        column = pl.col(values.name)
        is_exact = column.is_finite() & (column.abs() < EXACT_FLOATS)
        whole = pl.when(column == column.floor()).then(column.cast(pl.Int64, strict=False))
        ids = pl.when(is_exact).then(pl.coalesce(whole.cast(pl.String), column.cast(pl.String)))
        self._count_rounded(values.filter(values.abs() >= EXACT_FLOATS).cast(pl.String))
        return values.to_frame().select(ids.alias(values.name)).to_series()

    def _example(self, kind: str) -> str:
        """Returns an odd id; of user ids its form only, because notes are stored and shown."""
        text = self._shown[kind]
        if self.name != col.USER_ID:
            return text
        form = re.sub(r"\d", "9", text)
        return form if kind == "rounded" else re.sub(r"[^\W\d_]", "a", form)

    def _count_rounded(self, rounded: pl.Series) -> None:
        self._rounded += len(rounded)
        if len(rounded):
            self._shown.setdefault("rounded", rounded[0])

    def _look_for_floats(self, values: pl.Series) -> None:
        """Counts ids that end in ``.0``, until one does not."""
        known = len(values) - values.null_count()
        if known and self._floats == self._values:
            floats = values.str.contains(_WHOLE_FLOAT)
            count = int(floats.sum())
            self._floats += count
            if count:
                self._shown.setdefault("float", values.filter(floats)[0])
        self._values += known
        if self.strips_floats is None and known:
            self.strips_floats = self._are_floats()

    def _are_floats(self) -> bool:
        return 0 < self._floats == self._values
