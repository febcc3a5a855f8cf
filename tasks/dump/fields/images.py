"""Column of item images: an https address, or the path of an image file."""

from dataclasses import dataclass

import polars as pl

from artifacts import columns as col
from tasks.dump.fields.field import FieldReader

LONGEST = 1_000
_PLACE = r"(?i)^(https://[^/\s]+/\S+|[^\s:][^:]*\.(png|jpe?g|webp|gif|avif))$"
_SHOWN = 60


@dataclass
class ImageField(FieldReader):
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

    def notes(self) -> list[str]:
        if not self._unread:
            return []
        return [
            f"values of image that are no https address and no path of an image file, "
            f"{self._unread:,} of them, such as {self._shown!r}, are left out"
        ]
