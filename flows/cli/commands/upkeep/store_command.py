"""``llm4cdsr store``: inspection, verification and clean-up of the artifact store."""

import json
from typing import Annotated

import typer
from rich.table import Table

from artifacts.integrity import ArtifactError
from artifacts.leases import cleaning, used_now
from artifacts.manifest import ArtifactRef, Kind, Manifest
from artifacts.store import Store
from artifacts.user_error import UserError
from flows.cli.options.opened_store import existing_store, opened_store
from flows.cli.options.shared_options import StoreRoot
from flows.cli.output import terminal
from tasks.upkeep.cleaning import Cleaned, clean
from tasks.upkeep.needed import Keep, needed
from tasks.upkeep.transfer import copy, copy_all
from tasks.upkeep.usage import usage_of

TROUBLE = 1

store_app = typer.Typer(
    help="Inspect and maintain the artifact store.",
    no_args_is_help=True,
)

KindOption = Annotated[Kind | None, typer.Option("--kind", help="Only artifacts of this kind.")]
Named = Annotated[
    str, typer.Argument(help="Fingerprint of an artifact or kind/fingerprint, or a prefix.")
]


class NoSuchArtifactError(UserError, LookupError):
    """No artifact, or several, match a name."""


@store_app.command("ls", epilog="Example:\n\nllm4cdsr store ls --kind model")
def list_command(store: StoreRoot = None, kind: KindOption = None) -> None:
    """List artifacts, oldest first: creation time, size, dependents."""
    opened = existing_store(store)
    reasons = needed(opened, Keep(), _used(opened))
    table = terminal.table(opened.root, "artifact", "made (UTC)", ">MB", "needed")
    for column in table.columns:
        column.no_wrap = True
    for manifest in _manifests(opened, kind):
        table.add_row(
            str(manifest.ref),
            f"{manifest.created:%Y-%m-%d %H:%M}",
            f"{_size(manifest) / 1e6:,.1f}",
            reasons.get(manifest.ref, "by nothing"),
        )
    terminal.out.print(table)


@store_app.command("show", epilog="Example:\n\nllm4cdsr store show model/3f2a")
def show_command(name: Named, store: StoreRoot = None) -> None:
    """Show an artifact's parameters, parents, counts and files."""
    opened = existing_store(store)
    manifest = opened.manifest(_find(opened, name))
    facts = manifest.model_dump(mode="json", exclude={"digest", "upload"})
    terminal.out.print(json.dumps(facts, indent=2, ensure_ascii=False), soft_wrap=True)


@store_app.command(
    "verify",
    epilog="Exit status 0: every file matches its digest. 1: one does not; its artifact was "
    "quarantined, and the next run makes it again.",
)
def verify_command(store: StoreRoot = None, kind: KindOption = None) -> None:
    """Check every file of every artifact against its SHA-256."""
    opened = existing_store(store)
    checked = damaged = size = 0
    for manifest in _manifests(opened, kind):
        try:
            opened.verify(manifest.ref)
        except ArtifactError as error:
            damaged += 1
            terminal.say(str(error.args[0]), "Trouble:")
        checked, size = checked + 1, size + _size(manifest)
    terminal.out.print(f"{checked:,} artifacts of {size / 1e6:,.1f} MB read, {damaged:,} damaged")
    if damaged:
        raise typer.Exit(TROUBLE)


@store_app.command("gc", epilog="Example:\n\nllm4cdsr store gc --keep 5 --dry-run")
def gc_command(
    store: StoreRoot = None,
    keep: Annotated[
        int, typer.Option(min=1, help="Previously served releases to keep.")
    ] = Keep().releases,
    days: Annotated[
        float,
        typer.Option(
            min=0,
            help="Days to keep checkpoints of killed runs, copies of dumps and damaged artifacts.",
        ),
    ] = Keep().days,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List deletions without deleting.")
    ] = False,
) -> None:
    """Delete artifacts that no release, refresh, run or unfinished training needs.

    The ledger is never changed. For a remote store, copies on this machine are deleted at once;
    unneeded artifacts older than `--days` are unlisted, and deleted after another `--days`.
    """
    opened = existing_store(store)
    cleaned = clean(opened, Keep(keep, days), dry_run=dry_run)
    if dry_run:
        for each in cleaned.waste:
            line = f"{each.kind}: {each.path} ({each.bytes:,} bytes): {each.why}"
            terminal.say(line)
        for each in cleaned.remote:
            line = f"{each.kind}: {each.ref} ({each.bytes:,} bytes): {each.why}"
            terminal.say(line)
    terminal.out.print(_cleaned_table(cleaned, "would be deleted" if dry_run else "deleted"))
    if cleaned.runs:
        terminal.out.print(
            f"{cleaned.runs} running process(es) use the store; their artifacts were kept."
        )


@store_app.command("export", epilog="Example:\n\nllm4cdsr store export release/3f2a /media/disk")
def export_command(
    name: Named,
    target: Annotated[
        str, typer.Argument(help="Target store, existing or new: a folder or an fsspec URL.")
    ],
    store: StoreRoot = None,
) -> None:
    """Copy an artifact and its ancestors to another store."""
    opened = existing_store(store)
    ref = _find(opened, name)
    count = copy(opened, Store(target), ref)
    terminal.say(f"{ref} and {count - 1:,} others: {target}")


@store_app.command("import", epilog="Example:\n\nllm4cdsr store import /media/disk")
def import_command(
    source: Annotated[str, typer.Argument(help="Source store: a folder or an fsspec URL.")],
    store: StoreRoot = None,
) -> None:
    """Copy every release of another store with its ancestors; promotes none.

    A store without releases is copied whole, artifact by artifact.
    """
    refs = copy_all(existing_store(source), opened_store(store))
    for ref in refs:
        terminal.out.print(str(ref))
    terminal.out.print(f"{len(refs):,} copied; `llm4cdsr promote RELEASE` serves one")


@store_app.command("usage", epilog="Example:\n\nllm4cdsr store usage")
def usage_command(store: StoreRoot = None) -> None:
    """Show bytes and files by category: artifacts by kind, ledger, logs, leftovers."""
    opened = existing_store(store)
    table = terminal.table(str(opened.local), "what", ">places", ">files", ">MB")
    found = usage_of(opened)
    for kind, used in found.items():
        table.add_row(kind, f"{used.places:,}", f"{used.files:,}", f"{used.bytes / 1e6:,.1f}")
    table.add_section()
    total = sum(used.bytes for used in found.values())
    files = sum(used.files for used in found.values())
    table.add_row("all", "", f"{files:,}", f"{total / 1e6:,.1f}")
    terminal.out.print(table)


def _used(store: Store) -> set[str]:
    try:
        with cleaning(store.local):
            return used_now(store.local)[1]
    except OSError:  # The store is read-only: uses by runs are unknown, so nothing is deleted.
        return set()


def _cleaned_table(cleaned: Cleaned, title: str) -> Table:
    table = terminal.table(title, "what", ">places", ">files", ">bytes")
    for kind, (places, files, size) in sorted(cleaned.by_kind().items()):
        table.add_row(kind, f"{places:,}", f"{files:,}", f"{size:,}")
    table.add_section()
    table.add_row("all", f"{len(cleaned.waste):,}", f"{cleaned.files:,}", f"{cleaned.bytes:,}")
    return table


def _manifests(store: Store, kind: Kind | None) -> list[Manifest]:
    kinds = Kind if kind is None else (kind,)
    return [manifest for each in kinds for manifest in store.artifacts(each)]


def _find(store: Store, name: str) -> ArtifactRef:
    found = [
        manifest.ref
        for manifest in _manifests(store, None)
        if str(manifest.ref).startswith(name) or manifest.fingerprint.startswith(name)
    ]
    if len(found) != 1:
        raise NoSuchArtifactError(
            f"{name} names {len(found)} artifacts of {store.root}; `llm4cdsr store ls` lists them"
        )
    return found[0]


def _size(manifest: Manifest) -> int:
    return sum(file.size for file in manifest.files.values())
