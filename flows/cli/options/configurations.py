"""Conversion of command options to the configurations of stages."""

import os
import shlex
import sys
from typing import TYPE_CHECKING

import typer

from artifacts import columns as col
from artifacts.ledger.answers import Role
from artifacts.store import Store
from flows.cli.options.option_classes import DumpOptions, LlmOptions
from flows.cli.options.shared_options import SplitBy
from flows.settings import Settings, default_llm
from model.launch import is_torchrun
from prompts.language import Language
from tasks.dump.dump_config import (
    ByTime,
    ByUser,
    ColdDomain,
    DumpConfig,
    LeaveOneOut,
    Protocol,
)
from tasks.dump.events.conditions import condition
from tasks.dump.items.item_reader import ITEM_SCHEMA
from tasks.dump.naming.column_names import AbsentColumnError
from tasks.dump.naming.headers import require_columns
from tasks.dump.public_datasets import PublicDataset, load_public_dataset
from tasks.dump.sources.source_files import absolute, folder_name
from tasks.llm.providers.endpoints import require_usable
from tasks.llm.settings.budget import Budget
from tasks.llm.settings.llm_config import LlmConfig

if TYPE_CHECKING:
    from flows.refresh import RefreshConfig

OUR_COLUMNS = (col.USER_ID, col.TIMESTAMP, *ITEM_SCHEMA)


def require_store(root: str) -> None:
    """Raises an error if a store cannot be written to: unknown protocol, a file in its place, no
    permission. Creates no file."""
    store = Store(root)
    place = next(path for path in (store.local, *store.local.absolute().parents) if path.exists())
    if not place.is_dir():
        raise typer.BadParameter(f"--store {store.root}: {place} is a file; name a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"--store {store.root}: {place} cannot be written to")


def require_answering(llm: LlmConfig) -> None:
    """Raises where the configured models cannot be asked: no model's name, no price, no key."""
    for role in Role:
        require_usable(role, llm)


def refuse_torchrun() -> None:
    """Raises for a command that does not support several processes."""
    if is_torchrun():
        raise typer.BadParameter(
            "under torchrun every process would run the whole flow: let torchrun do "
            "`-m flows.cli.entry train`, then `llm4cdsr retrain` finds its model"
        )


def dump_config(
    read: DumpOptions, seed: int = 0, dataset: PublicDataset | None = None
) -> DumpConfig:
    """Returns the dump configuration; raises for an unusable file or column name."""
    choices = {
        "domains": tuple(read.domain) if read.domain else None,
        "where": _conditions(read.where),
        "since": read.since and read.since.date(),
        "until": read.until and read.until.date(),
        "max_users": read.max_users,
        "user_core": read.user_core,
        "item_core": read.item_core,
        "split": _split_of(read),
        "mode": read.mode,
        "seed": seed,
    }
    if dataset is not None and read.raw is not None:
        files = dataset.dump_settings(read.raw.resolve())
    elif not read.interactions:
        raise typer.BadParameter(
            "give --interactions FILE (try `llm4cdsr demo-dump demo`), or --dataset NAME"
        )
    else:
        files = {
            "interactions": absolute(tuple(read.interactions)),
            "items": absolute(tuple(read.items)) if read.items else None,
            "columns": renaming(read.column),
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


def named_dataset(read: DumpOptions) -> PublicDataset | None:
    """Returns the requested data set; raises for contradictory options."""
    if read.dataset is None:
        if read.raw is not None:
            raise typer.BadParameter("--raw belongs to --dataset NAME; see `llm4cdsr datasets`")
        return None
    if read.interactions:
        raise typer.BadParameter("give --dataset or --interactions, not both")
    dataset = load_public_dataset(read.dataset)
    if read.raw is None:
        files = ", ".join(dataset.raw_files())
        raise typer.BadParameter(f"--dataset {read.dataset} needs --raw FOLDER, with {files}")
    return dataset


def _split_of(read: DumpOptions) -> Protocol | None:
    """Returns the split configuration, None without split options."""
    split, moments = read.split, read.validation_from or read.test_from
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
            return ByTime(validation_from=read.validation_from, test_from=read.test_from)
        case _:
            return None


def require_matching_crossings(read: DumpOptions) -> None:
    """Raises for an option of cross-domain questions without these."""
    if read.crossing_items and not read.crossing_questions:
        raise typer.BadParameter("--crossing-items belongs to --crossing-questions")


def refresh_config(read: DumpOptions, seed: int) -> "RefreshConfig":
    """Returns what a refresh makes."""
    from flows.refresh import RefreshConfig  # Imports Prefect.
    from tasks.cluster import ClusterConfig
    from tasks.cross_domains import CrossingConfig
    from tasks.profile import ProfileConfig

    return RefreshConfig(
        clusters=ClusterConfig(clusters=read.clusters, seed=seed),
        profiles=ProfileConfig(max_users=read.profile_users, seed=seed, style=read.profile_style),
        crossings=CrossingConfig(enabled=read.crossing_questions, items=read.crossing_items),
    )


def llm_config(
    settings: Settings, ask: LlmOptions, dataset: PublicDataset | None = None
) -> LlmConfig:
    """Returns the LLM configuration of the environment with the options in its place."""
    llm = default_llm(settings)
    given = {name: getattr(ask, name) for name in Budget.model_fields}
    limits = {name: limit for name, limit in given.items() if limit is not None}
    language = ask.language or (dataset.language if dataset else None)
    batch = settings.batches.model_copy(update={"kind": ask.batch}) if ask.batch else llm.batch
    return llm.model_copy(
        update={
            "provider": ask.provider or llm.provider,
            "language": _language(language) if language else llm.language,
            "batch": batch,
            "budget": Budget.model_validate({**llm.budget.model_dump(), **limits}),
        }
    )


def title_of(name: str | None, interactions: list[str] | None) -> str:
    """Returns the display name of the data in the report and the Prefect UI."""
    return name or (folder_name(tuple(interactions)) if interactions else "your data")


def _language(name: str) -> Language:
    if name not in set(Language):
        raise typer.BadParameter(
            f"the data set requires prompts in '{name}'; there are {', '.join(Language)}"
        )
    return Language(name)


def _renaming(text: str) -> tuple[str, str]:
    theirs, separator, ours = text.partition("=")
    if not (theirs and separator and ours):
        raise typer.BadParameter(f"--column {text}: write NAME_IN_FILE=NAME, as reviewerID=user_id")
    if ours not in OUR_COLUMNS:
        raise typer.BadParameter(
            f"--column {text}: {ours} is not a column name ({', '.join(OUR_COLUMNS)}); "
            "write NAME_IN_FILE=NAME, as reviewerID=user_id"
        )
    return theirs, ours
