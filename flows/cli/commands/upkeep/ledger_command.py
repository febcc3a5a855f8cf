"""``llm4cdsr ledger``: statistics, verification, compaction and export of the ledger."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import polars as pl
import pyarrow as pa
import typer
from rich.table import Table

from artifacts.ledger.answers import MODEL, Role
from artifacts.ledger.check import LedgerCheck, verify
from artifacts.ledger.compaction import compact
from artifacts.ledger.export import CUT, FIRST, LAST, LedgerStats, export, stats_of
from artifacts.ledger.ledger import Ledger, LedgerDamagedError
from artifacts.ledger.repair import repair
from artifacts.store import Store
from flows.cli.options.opened_store import store_root
from flows.cli.options.shared_options import StoreRoot
from flows.cli.output import terminal

TROUBLE = 1


ledger_app = typer.Typer(
    help="Inspect and maintain the ledger of LLM answers.",
    no_args_is_help=True,
)


@ledger_app.command(epilog="Example:\n\nllm4cdsr ledger stats --store artifacts/data")
def stats(store: StoreRoot = None) -> None:
    """Show answers, tokens, bytes and dates by role and model."""
    for ledger in _ledgers(store):
        with _readable(ledger):
            found = stats_of(ledger)
        terminal.out.print(_stats_table(ledger, found))


@ledger_app.command(
    "verify",
    epilog="Examples:\n\nllm4cdsr ledger verify\n\nllm4cdsr ledger verify --repair\n\n"
    "Exit status 0: every answer is intact. 1: a file is damaged; the output names the remedy.",
)
def verify_command(
    store: StoreRoot = None,
    mend: Annotated[
        bool,
        typer.Option(
            "--repair", help="Keep readable answers, quarantine damaged files, delete leftovers."
        ),
    ] = False,
) -> None:
    """Check every answer: checksums, vectors, keys against prompts, journals."""
    troubled = False
    for ledger in _ledgers(store):
        for line in repair(ledger) if mend else []:
            terminal.say(f"{ledger.role}: {line}")
        verdict = verify(ledger)
        _print_verdict(ledger, verdict)
        troubled |= bool(verdict.trouble)
    if troubled:
        raise typer.Exit(TROUBLE)


@ledger_app.command("compact", epilog="Example:\n\nllm4cdsr ledger compact")
def compact_command(store: StoreRoot = None) -> None:
    """Merge many small files into few; safe beside runs and under kill."""
    for ledger in _ledgers(store):
        with _readable(ledger):
            done = compact(ledger)
        terminal.out.print(
            f"{ledger.role}: {done.files_before:,} files became {done.files_after:,}; "
            f"{done.duplicates_dropped:,} duplicate rows dropped"
        )


@ledger_app.command(
    "export",
    epilog="Examples:\n\nllm4cdsr ledger export chat profiles.jsonl\n\n"
    "llm4cdsr ledger export embedding vectors.parquet",
)
def export_command(
    role: Annotated[Role, typer.Argument(help="Role of the model: chat or embedding.")],
    target: Annotated[Path, typer.Argument(help="Output file, .parquet or .jsonl.")],
    store: StoreRoot = None,
) -> None:
    """Write every answer with its prompt and model."""
    ledger = Ledger(Store(_root(store)).local, role)
    with _readable(ledger):
        rows = export(ledger, target)
    terminal.say(f"{rows:,} answers: {target}")


@contextmanager
def _readable(ledger: Ledger) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # The operating system's message, for example of a full disk.
        raise LedgerDamagedError(ledger.folder, error) from error


def _root(store: str | None) -> str:
    root = store_root(store)
    if not (Store(root).local / "ledger").is_dir():
        raise typer.BadParameter(f"{root} has no ledger; name another with --store")
    return root


def _ledgers(store: str | None) -> list[Ledger]:
    local = Store(_root(store)).local
    return [Ledger(local, role) for role in Role]


def _stats_table(ledger: Ledger, found: LedgerStats) -> Table:
    table = terminal.table(
        f"{ledger.role}: {found.parts:,} parts, {found.journals:,} open journals, "
        f"{found.questions:,} recorded questions, {found.bytes / 1e6:,.1f} MB",
        *("model", ">answers", ">cut by length", ">tokens in", ">tokens out", ">first", ">last"),
    )
    for row in found.models.iter_rows(named=True):
        table.add_row(
            row[MODEL] or "(not recorded)",
            *(f"{row[name]:,}" for name in ("answers", CUT, "prompt_tokens", "completion_tokens")),
            *(f"{row[name]:%Y-%m-%d %H:%M}" if row[name] else "" for name in (FIRST, LAST)),
        )
    return table


def _print_verdict(ledger: Ledger, verdict: LedgerCheck) -> None:
    terminal.out.print(
        f"{ledger.role}: {verdict.answers:,} answers in {len(ledger.parts()):,} parts, "
        f"{verdict.questions:,} questions checked against their keys"
    )
    for line in verdict.trouble:
        terminal.say(line, "Trouble:")
    for line in verdict.traces:
        terminal.say(f"  {line}")
    if not verdict.trouble:
        terminal.out.print("  sound", style="green")
