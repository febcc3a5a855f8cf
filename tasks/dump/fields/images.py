"""A column that says where an item's image is: an https address, or the path of an image file."""

from dataclasses import dataclass
from typing import Self

import polars as pl

from artifacts import columns as col

LONGEST = 1_000
_PLACE = r"(?i)^(https://[^/\s]+/\S+|[^\s:][^:]*\.(png|jpe?g|webp|gif|avif))$"
_SHOWN = 60


@dataclass
class ImageField:
    """Keeps what may be an image's place; a dump may also hold the images themselves, or have a
    column of that name for something else."""

    _unread: int = 0
    _shown: str = ""

    def read(self, values: pl.Series) -> pl.Series:
        """Returns places (String), the first of a list, null where there is none."""
        if isinstance(values.dtype, pl.List):
            values = values.list.first()
        texts = values.cast(pl.String, strict=False).str.strip_chars()
        texts = texts.set(texts == "", None)
        fits = texts.str.contains(_PLACE) & (texts.str.len_chars() <= LONGEST)
        strange = texts.filter(~fits)
        if len(strange):
            self._unread += len(strange)
            self._shown = self._shown or str(strange[0])[:_SHOWN]
        return texts.set(~fits, None).alias(col.IMAGE)

    def is_settled(self) -> bool:
        return True

    def fresh(self) -> Self:
        return type(self)()

    def notes(self) -> list[str]:
        if not self._unread:
            return []
        return [
            f"values of image that are no https address and no path of an image file, "
            f"{self._unread:,} of them, such as {self._shown!r}, are left out"
        ]

    def is_repaired(self) -> bool:
        return False

    def fault(self) -> str | None:
        return None
