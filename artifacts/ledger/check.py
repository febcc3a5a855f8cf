"""Verification of a ledger.

Trouble is damage that loses or falsifies answers. Traces of killed processes (an abandoned journal,
a partial file) are reported as well; the next run or `artifacts.ledger.repair` removes them without
loss.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from artifacts import columns as col
from artifacts.files.ownership import if_abandoned
from artifacts.ledger.answers import MODEL, Role, answer_key, parse_journal
from artifacts.ledger.claims import PARAMETERS, PROMPT
from artifacts.ledger.compaction import MERGED
from artifacts.ledger.journal import OUTBOX
from artifacts.ledger.ledger import Ledger

KEYS_AT_ONCE = 1_000_000
BATCH_ROWS = 16_384
STALE_SECONDS = 3600

_UNREADABLE = (OSError, ValueError, pa.ArrowException, pl.exceptions.PolarsError)

_KEY_FORM = r"^[0-9a-f]{64}$"


@dataclass
class LedgerCheck:
    """Result of a verification; ``trouble`` and ``traces`` are sentences."""

    answers: int = 0
    questions: int = 0
    twice: int = 0
    trouble: list[str] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    damaged_parts: list[Path] = field(default_factory=list)
    damaged_questions: list[Path] = field(default_factory=list)
    damaged_journals: list[Path] = field(default_factory=list)
    damaged_others: list[Path] = field(default_factory=list)
    stale: list[Path] = field(default_factory=list)


def verify(ledger: Ledger) -> LedgerCheck:
    """Checks all pages against checksums, all answers, keys, journals and requests of batches."""
    verdict = LedgerCheck()
    with ledger.reading():
        for part in ledger.parts():
            _check_part(part, ledger.role, verdict)
        if not verdict.damaged_parts:
            verdict.twice = sum(rows.height for rows in repeated_keys(ledger))
        _check_questions(ledger, verdict)
        _check_outbox(ledger, verdict)
    _check_journals(ledger, verdict)
    _check_batches(ledger, verdict)
    _check_leftovers(ledger, verdict)
    if verdict.twice:
        verdict.traces.append(f"{verdict.twice} keys have several answers; the oldest one is used")
    return verdict


def repeated_keys(ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Yields ``key, len`` of keys with several answers, by slices of the key space."""
    with ledger.reading() as parts:
        rows = parts.select(pl.len()).collect().item()
        slices = rows // KEYS_AT_ONCE + 1
        bucket = pl.col(col.KEY).hash(seed=0) % slices
        for number in range(slices):
            keys = parts.select(col.KEY).filter(bucket == number)
            counted = keys.group_by(col.KEY).len().filter(pl.col("len") > 1)
            yield counted.collect(engine="streaming")


def _check_part(part: Path, role: Role, verdict: LedgerCheck) -> None:
    try:
        _refuse_link(part)
        for rows in read_batches(part):
            verdict.answers += rows.height
            if bad := rows.filter(~is_sound(rows, role)).height:
                raise ValueError(f"{bad} rows are not answers")
    except _UNREADABLE as error:
        verdict.damaged_parts.append(part)
        kept = "its readable answers are kept, the others are requested again"
        verdict.trouble.append(_damage(part, error, kept))


def read_batches(part: Path) -> Iterator[pl.DataFrame]:
    """Yields the rows of a part; raises for a page with a wrong checksum."""
    with pq.ParquetFile(part, page_checksum_verification=True) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            yield pl.DataFrame(pa.Table.from_batches([batch]))


def is_sound(rows: pl.DataFrame, role: Role) -> pl.Series:
    """Returns the mask of valid answers: a key, and a text or a finite non-zero vector."""
    has_key = rows[col.KEY].str.contains(_KEY_FORM).fill_null(value=False)
    if role is Role.CHAT:
        return has_key & (rows["text"].str.len_bytes() > 0).fill_null(value=False)
    return has_key & pl.Series([_is_vector(vector) for vector in rows["vector"]], dtype=pl.Boolean)


def _is_vector(vector: bytes | None) -> bool:
    if not vector or len(vector) % 4:
        return False
    numbers = np.frombuffer(vector, dtype="<f4")
    return bool(np.isfinite(numbers).all() and numbers.any())


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise ValueError(f"a link to {path.readlink()}, which a removal would not change")


def _check_outbox(ledger: Ledger, verdict: LedgerCheck) -> None:
    for path in sorted((ledger.folder / OUTBOX).glob("part-*.parquet")):
        try:
            for _ in read_batches(path):
                """Read whole."""
        except FileNotFoundError:
            continue  # Uploaded.
        except _UNREADABLE as error:
            verdict.damaged_others.append(path)
            verdict.trouble.append(_damage(path, error, "it is not uploaded"))


def _check_batches(ledger: Ledger, verdict: LedgerCheck) -> None:
    for path in sorted(ledger.folder.glob("batches/*/requests.jsonl")):
        try:
            for line in path.read_bytes().splitlines():
                json.loads(line)["custom_id"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            verdict.trouble.append(
                f"{path} is damaged ({error}); delete {path.parent}: its prompts are sent again"
            )


def _check_questions(ledger: Ledger, verdict: LedgerCheck) -> None:
    """Checks keys against the hashes of their prompts: a wrong key would return another prompt's
    answer."""
    records = (*ledger.folder.glob("claim-*.parquet"), *ledger.folder.glob("questions-*.parquet"))
    for path in sorted(records):
        try:
            _refuse_link(path)
            wrong = 0
            for rows in read_batches(path):
                verdict.questions += rows.height
                wrong += sum(key != expected for key, expected in _keys_of(rows, ledger.role))
            if wrong:
                raise ValueError(f"{wrong} prompts under a wrong key")
        except FileNotFoundError:
            continue  # Merged by a compaction, or the end of a claim.
        except _UNREADABLE as error:
            verdict.damaged_questions.append(path)
            kept = "it is a record of prompts and will be quarantined; no answer is lost"
            verdict.trouble.append(_damage(path, error, kept))


def _keys_of(rows: pl.DataFrame, role: Role) -> Iterator[tuple[str, str]]:
    for key, model, parameters, prompt in rows.select(
        col.KEY, MODEL, PARAMETERS, PROMPT
    ).iter_rows():
        asked = json.loads(prompt) if role is Role.CHAT else prompt
        yield key, answer_key(model, json.loads(parameters), asked)


def _check_journals(ledger: Ledger, verdict: LedgerCheck) -> None:
    for path in sorted(ledger.folder.glob("journal-*.jsonl")):
        if path.is_dir():
            verdict.damaged_others.append(path)
            verdict.trouble.append(_damage(path, IsADirectoryError("a folder"), "it is set aside"))
            continue
        with if_abandoned(path) as is_left:
            if not is_left:
                continue  # In use or finished by its writer.
            content = path.read_bytes()
        try:
            held = parse_journal(content).height
        except ValidationError as error:
            verdict.damaged_journals.append(path)
            verdict.trouble.append(
                f"{path} has a line that is not an answer ({error.errors()[0]['msg']}); run "
                "`llm4cdsr ledger verify --repair`"
            )
            continue
        torn = " and a torn line" if content and not content.endswith(b"\n") else ""
        verdict.traces.append(
            f"{path.name} of a killed run holds {held} answers{torn}; the next run recovers them"
        )


def _check_leftovers(ledger: Ledger, verdict: LedgerCheck) -> None:
    """Reports old files only: a recent one may still be being written."""
    young = time.time() - STALE_SECONDS
    for path in sorted([*ledger.folder.glob("*.tmp"), *ledger.folder.glob("*.new")]):
        # Merged files belong to a compaction.
        if not path.name.startswith(MERGED) and path.stat().st_mtime < young:
            verdict.stale.append(path)
            verdict.traces.append(f"{path.name} was left by a killed process")


def _damage(path: Path, error: Exception, kept: str) -> str:
    cause = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{path} is damaged ({cause}); run `llm4cdsr ledger verify --repair`: {kept}"
