"""Conversion of command options to the configurations of stages."""

import os
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from artifacts import columns as col
from artifacts.ledger.answers import Role
from artifacts.store import Store
from flows.cli.options.shared_options import SplitBy
from flows.settings import Settings, default_llm
from model.launch import is_torchrun
from prompts.language import Language
from prompts.profile_style import ProfileStyle
from tasks.dump.dump_config import (
    ByTime,
    ByUser,
    ColdDomain,
    DumpConfig,
    LeaveOneOut,
    Mode,
    Protocol,
)
from tasks.dump.events.conditions import condition
from tasks.dump.items.item_reader import ITEM_SCHEMA
from tasks.dump.naming.column_names import AbsentColumnError
from tasks.dump.naming.headers import require_columns
from tasks.dump.presets import DatasetPreset, load_dataset_preset
from tasks.dump.sources.source_files import absolute, folder_name
from tasks.llm.providers.endpoints import require_usable
from tasks.llm.settings.batch_config import BatchConfig, BatchKind
from tasks.llm.settings.budget import Budget
from tasks.llm.settings.llm_config import LlmConfig, Provider

if TYPE_CHECKING:
    from flows.refresh import RefreshConfig

OUR_COLUMNS = (col.USER_ID, col.TIMESTAMP, *ITEM_SCHEMA)


def require_store(root: str) -> None:
    """Raises where nothing can be written to a store: an unknown protocol, a file in its place.
    Creates nothing."""
    store = Store(root)
    place = next(path for path in (store.local, *store.local.absolute().parents) if path.exists())
    if not place.is_dir():
        raise typer.BadParameter(f"--store {store.root}: {place} is a file; name a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"--store {store.root}: {place} cannot be written to")


def require_answering(llm: LlmConfig) -> None:
    """Raises where the configured models cannot be asked: no model's name, no price, no key."""
    for role, settings in ((Role.CHAT, llm.chat), (Role.EMBEDDING, llm.embedding)):
        require_usable(role, llm, settings)


def refuse_torchrun() -> None:
    """Raises for a command that does not support several processes."""
    if is_torchrun():
        raise typer.BadParameter(
            "under torchrun every process would run the whole flow: let torchrun do "
            "`-m flows.cli.entry train`, then `llm4cdsr retrain` finds its model"
        )


def dump_config(
    interactions: list[str] | None,
    items: list[str] | None,
    column: list[str] | None,
    domain: list[str] | None,
    max_users: int | None,
    user_core: int | None,
    item_core: int | None,
    seed: int,
    window: tuple[datetime | None, datetime | None],
    split: Protocol | None,
    mode: Mode,
    dataset: DatasetPreset | None = None,
    raw: Path | None = None,
    where: list[str] | None = None,
) -> DumpConfig:
    """Returns the dump configuration; raises for an unusable file or column name."""
    since, until = (None if day is None else day.date() for day in window)
    choices = {
        "domains": tuple(domain) if domain else None,
        "where": _conditions(where),
        "since": since,
        "until": until,
        "max_users": max_users,
        "user_core": user_core,
        "item_core": item_core,
        "split": split,
        "mode": mode,
        "seed": seed,
    }
    if dataset is not None and raw is not None:
        files = dataset.dump_settings(raw.resolve())
    elif not interactions:
        raise typer.BadParameter(
            "give --interactions FILE (try `llm4cdsr demo-dump demo`), or --dataset NAME"
        )
    else:
        files = {
            "interactions": absolute(tuple(interactions)),
            "items": absolute(tuple(items)) if items else None,
            "columns": renaming(column),
        }
    made = {name: choice for name, choice in choices.items() if choice is not None}
    return DumpConfig.model_validate({**files, **made})


def _conditions(where: list[str] | None) -> tuple[str, ...] | None:
    for text in where or ():
        try:
            condition(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return tuple(where) if where else None


def renaming(column: list[str] | None) -> dict[str, str]:
    """Returns the mapping of column names; raises typer.BadParameter for an invalid pair."""
    return dict(_renaming(text) for text in column or ())


def require_headers(dump: DumpConfig) -> None:
    """Raises `UnreadableDumpError` if a file or column is missing, with a command that maps the
    likely column."""
    try:
        require_columns(dump)
    except AbsentColumnError as error:
        if error.renamed:
            command = shlex.join(["llm4cdsr", *sys.argv[1:], *error.renamed])
            error.args = (f"{error.args[0]}\n{command}",)
        raise


def named_dataset(
    name: str | None, raw: Path | None, interactions: list[str] | None
) -> DatasetPreset | None:
    """Returns the requested data set; raises for contradictory options."""
    if name is None:
        if raw is not None:
            raise typer.BadParameter("--raw belongs to --dataset NAME; see `llm4cdsr datasets`")
        return None
    if interactions:
        raise typer.BadParameter("give --dataset or --interactions, not both")
    dataset = load_dataset_preset(name)
    if raw is None:
        files = ", ".join(dataset.raw_files())
        raise typer.BadParameter(f"--dataset {name} needs --raw FOLDER, which holds {files}")
    return dataset


def split_of(
    split: SplitBy | None, validation_from: datetime | None, test_from: datetime | None
) -> Protocol | None:
    """Returns the split configuration, None without split options."""
    moments = validation_from or test_from
    if moments is not None and split not in (SplitBy.TIME, None):
        raise typer.BadParameter("--validation-from and --test-from belong to --split time")
    match split:
        case SplitBy.USERS:
            return ByUser()
        case SplitBy.LEAVE_ONE_OUT:
            return LeaveOneOut()
        case SplitBy.COLD_DOMAIN:
            return ColdDomain()
        case _ if split is SplitBy.TIME or moments is not None:
            return ByTime(validation_from=validation_from, test_from=test_from)
        case _:
            return None


def refresh_config(
    clusters: int,
    profile_users: int | None,
    seed: int,
    style: ProfileStyle = ProfileStyle.PAPER,
    crossing_items: int | None = None,
) -> "RefreshConfig":
    """Returns what a refresh makes; ``crossing_items`` is None without questions across domains."""
    from flows.refresh import RefreshConfig
    from tasks.cluster import ClusterConfig
    from tasks.cross_domains import CrossingConfig
    from tasks.profile import ProfileConfig

    return RefreshConfig(
        clusters=ClusterConfig(clusters=clusters, seed=seed),
        profiles=ProfileConfig(max_users=profile_users, seed=seed, style=style),
        crossings=CrossingConfig(enabled=crossing_items is not None, items=crossing_items or 0),
    )


def llm_config(
    settings: Settings,
    provider: Provider | None,
    language: str | None = None,
    max_usd: float | None = None,
    max_tokens: int | None = None,
    max_requests: int | None = None,
    batch: BatchKind | None = None,
) -> LlmConfig:
    llm = default_llm(settings)
    given = {"max_usd": max_usd, "max_tokens": max_tokens, "max_requests": max_requests}
    limits = {name: limit for name, limit in given.items() if limit is not None}
    return llm.model_copy(
        update={
            "provider": provider or llm.provider,
            "language": _language(language) if language else llm.language,
            "batch": _batches(settings, batch) if batch else llm.batch,
            "budget": Budget.model_validate({**llm.budget.model_dump(), **limits}),
        }
    )


def _batches(settings: Settings, kind: BatchKind) -> BatchConfig:
    return settings.batches.model_copy(update={"kind": kind})


def title_of(name: str | None, interactions: list[str] | None) -> str:
    """Returns the display name of the data in the report and the Prefect UI."""
    return name or (folder_name(tuple(interactions)) if interactions else "your data")


def _language(name: str) -> Language:
    if name not in set(Language):
        raise typer.BadParameter(
            f"the data set wants prompts in '{name}'; there are {', '.join(Language)}"
        )
    return Language(name)


def _renaming(text: str) -> tuple[str, str]:
    theirs, separator, ours = text.partition("=")
    if not (theirs and separator and ours):
        raise typer.BadParameter(f"--column {text}: write THEIRS=OURS, as reviewerID=user_id")
    if ours not in OUR_COLUMNS:
        raise typer.BadParameter(
            f"--column {text}: {ours} is none of our columns ({', '.join(OUR_COLUMNS)}); "
            "write THEIRS=OURS, as reviewerID=user_id"
        )
    return theirs, ours
