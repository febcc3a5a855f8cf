"""Which of a stage's prompts must be asked, on disk: only one piece of them is in memory.

Prompts come in pieces. Of each piece what repeats an earlier prompt and what the ledger holds
is left out, and the rest is written to a folder that shards read their slices from. What stays
in memory is the keys, some 80 bytes a prompt.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import polars as pl

from artifacts import columns as col
from artifacts.ledger import Ledger

PROMPT = "prompt"
PROMPT_SCHEMA = pl.Schema({col.KEY: pl.String, PROMPT: pl.String})


@dataclass(frozen=True)
class Spool:
    """``keys`` are distinct, in their first order; ``missing`` prompts lie in ``folder``.

    ``held_key`` is one that the ledger has, if any.
    """

    folder: Path
    keys: pl.Series
    prompts: int
    missing: int
    held_key: str | None


@contextmanager
def spooled(
    prompts: Iterable[pl.DataFrame], ledger: Ledger, directory: Path, rows_a_shard: int
) -> Iterator[Spool]:
    """Gives the prompts (``key, prompt``) that the ledger lacks, until the block ends."""
    folder = directory / uuid4().hex
    folder.mkdir()
    try:
        yield _spool(prompts, ledger, folder, rows_a_shard)
    finally:
        shutil.rmtree(folder)


def spooled_rows(folder: Path, start: int, stop: int) -> pl.DataFrame:
    """Returns the missing prompts ``start`` to ``stop``, reading no others."""
    files = sorted(folder.glob("*.parquet"))
    return pl.scan_parquet(files, glob=False).slice(start, stop - start).collect()


def _spool(
    prompts: Iterable[pl.DataFrame], ledger: Ledger, folder: Path, rows_a_shard: int
) -> Spool:
    keys = pl.DataFrame(schema={col.KEY: pl.String})
    given, missing, held_key = 0, 0, None
    for number, piece in enumerate(prompts):
        given += piece.height
        fresh = piece.unique(col.KEY, keep="first", maintain_order=True).join(
            keys, on=col.KEY, how="anti", maintain_order="left"
        )
        lacking = ledger.missing(fresh[col.KEY]).to_frame()
        asked = fresh.join(lacking, on=col.KEY, how="semi", maintain_order="left")
        if held_key is None and asked.height < fresh.height:
            held_key = fresh.join(lacking, on=col.KEY, how="anti")[col.KEY][0]
        if asked.height:
            # Row groups of a shard's size: reading one shard decodes two of them at most.
            asked.write_parquet(folder / f"{number:06}.parquet", row_group_size=rows_a_shard)
        keys = pl.concat([keys, fresh.select(col.KEY)])
        missing += asked.height
    return Spool(folder, keys[col.KEY], given, missing, held_key)
