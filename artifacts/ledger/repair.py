"""Repair of a ledger: keeps readable answers and quarantines damaged files."""

import fcntl
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from artifacts.files.ownership import locked
from artifacts.ledger.answers import parse_journal
from artifacts.ledger.check import is_sound, verify
from artifacts.ledger.compaction import compact
from artifacts.ledger.journal import write_part
from artifacts.ledger.ledger import SWAP_LOCK, Ledger
from artifacts.ledger.shared import download_again

SET_ASIDE = "set-aside"


def repair(ledger: Ledger) -> list[str]:
    """Repairs the faults reported by `verify` without losing valid answers; returns sentences about
    the changes.

    Damaged files are kept in `SET_ASIDE`; their readable answers are written to new parts.
    """
    verdict = verify(ledger)
    done = [_mend_part(ledger, part) for part in verdict.damaged_parts]
    if done:  # The store of several machines may have the answers that could not be read.
        download_again(ledger.folder)
    record = "it is a record of prompts, without answers"
    done += [f"{_set_aside(ledger, path)}; {record}" for path in verdict.damaged_questions]
    done += [_set_aside(ledger, path) for path in verdict.damaged_others]
    done += [_mend_journal(ledger, journal) for journal in verdict.damaged_journals]
    for path in verdict.stale:
        path.unlink(missing_ok=True)
        done.append(f"removed {path.name}, left by a killed process")
    if recovered := ledger.recover():
        done.append(f"sealed {recovered} answers of killed runs")
    dropped = compact(ledger).duplicates_dropped
    return [*done, f"dropped {dropped} duplicate answers"] if dropped else done


def _mend_part(ledger: Ledger, part: Path) -> str:
    aside = _aside(ledger, part)
    kept = 0
    for number, rows in enumerate(_readable_groups(part)):
        try:
            sound = rows.filter(is_sound(rows, ledger.role))
        except pl.exceptions.PolarsError:  # Columns of another table.
            continue
        if sound.height:
            partial = ledger.folder / f"{part.stem}-{number}.tmp"
            write_part(sound, partial)
            partial.replace(partial.with_suffix(".parquet"))
            kept += sound.height
    with locked(ledger.folder / SWAP_LOCK, fcntl.LOCK_EX):
        part.replace(aside)
    return f"moved {part.name} to {aside.parent}; {kept} of its answers are kept"


def _readable_groups(part: Path) -> Iterator[pl.DataFrame]:
    try:
        file = pq.ParquetFile(part, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return
    with file:
        for number in range(file.num_row_groups):
            try:
                yield pl.DataFrame(file.read_row_group(number))
            except (OSError, pa.ArrowException, pl.exceptions.PolarsError):
                continue


def _set_aside(ledger: Ledger, path: Path) -> str:
    aside = _aside(ledger, path)
    with locked(ledger.folder / SWAP_LOCK, fcntl.LOCK_EX):
        path.replace(aside)
    return f"moved {path.name} to {aside.parent}"


def _mend_journal(ledger: Ledger, journal: Path) -> str:
    aside = _aside(ledger, journal)
    whole = journal.read_bytes().splitlines(keepends=True)
    good = [line for line in whole if _is_answer(line)]
    aside.write_bytes(journal.read_bytes())
    partial = journal.with_suffix(".tmp")
    partial.write_bytes(b"".join(good))
    partial.replace(journal)
    return f"kept {len(good)} answers of {journal.name}; the original file is in {aside.parent}"


def _is_answer(line: bytes) -> bool:
    try:
        return parse_journal(line).height == 1
    except ValidationError:
        return False


def _aside(ledger: Ledger, path: Path) -> Path:
    folder = ledger.folder / SET_ASIDE
    folder.mkdir(exist_ok=True)
    return folder / path.name
