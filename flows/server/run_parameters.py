"""Restriction of the parameters of runs started through the Prefect API.

Destinations of text and keys, commands, and files are settings of the machine's environment. Runs
started on the command line are not restricted.
"""

import os
from collections.abc import Iterable, Iterator
from glob import has_magic
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from artifacts.strict import Strict
from artifacts.user_error import UserError
from flows.settings import Settings, default_llm
from tasks.dump.dump_config import DumpConfig
from tasks.dump.sources.source_files import paths_of, source_files
from tasks.llm.settings.batch_config import BatchConfig
from tasks.llm.settings.llm_config import ChatConfig, EmbeddingConfig, LlmConfig

FLOW_RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
"""Variable that every worker sets in the process of a run."""

FREE_FIELDS: dict[type[Strict], frozenset[str]] = {
    LlmConfig: frozenset(
        {
            "chat",
            "embedding",
            "batch",
            "language",
            "max_retries",
            "outage_minutes",
            "budget",
            "prices",
            "shard_size",
            "max_failed_share",
        }
    ),
    # Further request fields could name another server.
    ChatConfig: frozenset(ChatConfig.model_fields) - {"base_url", "model", "parameters"},
    EmbeddingConfig: frozenset(EmbeddingConfig.model_fields) - {"base_url", "model", "parameters"},
    BatchConfig: frozenset(
        {"max_lines", "max_bytes", "in_flight", "rounds", "price_share", "poll_seconds"}
    ),
}
"""Fields that a run may set. New fields of the first and last are machine settings by default."""

Given = TypeVar("Given", bound=Strict)


class MachineSettingError(UserError, ValueError):
    """A run started through the Prefect API has a parameter reserved for the machine."""


def is_started_by_api() -> bool:
    """Returns whether this process executes a run started through the Prefect API."""
    return FLOW_RUN_VARIABLE in os.environ


def llm_of_run(given: LlmConfig | None, settings: Settings) -> LlmConfig:
    """Returns the LLM configuration of a run; a restricted run uses the machine's models and
    servers.

    Raises:
        MachineSettingError: a restricted run names others.
    """
    machine = default_llm(settings)
    if given is None or not is_started_by_api():
        return given or machine
    if given.batch is not None:
        machine = machine.model_copy(update={"batch": settings.batches})
    return _of_the_machine(given, machine, "llm")


def refuse_other_places(
    settings: Settings, dumps: str, store: str | None, places: Iterable[str | None]
) -> None:
    """Raises if a restricted run uses paths outside of the machine's store and dumps folder.

    Raises:
        MachineSettingError.
    """
    if not is_started_by_api():
        return
    if store is not None and _absolute(store) != _absolute(settings.store):
        raise MachineSettingError(
            f"store: this machine works on {settings.store}, not on '{store}'; leave it empty"
        )
    for place in places:
        if place is not None and not is_within(place, dumps):
            raise MachineSettingError(
                f"'{place}' is not in the dumps folder {dumps}; copy it there. LLM4CDSR_DUMPS "
                "names the folder, for the machine alone"
            )


def files_of(dump: DumpConfig | None) -> Iterator[str]:
    """Yields the paths of a dump's configuration, then the files of folders and patterns among
    them, because links may point elsewhere."""
    named = [
        path
        for source in (dump.files if dump else ())
        for path in (*paths_of(source.interactions), *paths_of(source.items or ()))
    ]
    yield from named
    for path in named:
        # Also of ``NAME=FILE``, in which the path is only a part of the text.
        if "://" not in path and ("=" in path or Path(path).is_dir() or has_magic(path)):
            yield from (file.path for file in source_files(path))


def is_within(place: str, root: str) -> bool:
    """Returns whether a path or URL is a folder or inside of it, with links resolved."""
    if "::" in place:  # fsspec supports chained file systems.
        return False
    if "://" in root:
        below = place == root.rstrip("/") or place.startswith(f"{root.rstrip('/')}/")
        return below and ".." not in unquote(place).split("/")
    if "://" in place or place.startswith("~"):
        return False
    return Path(place).resolve().is_relative_to(Path(root).resolve())


def _of_the_machine(given: Given, machine: Given, where: str) -> Given:
    merged: dict[str, object] = {}
    for name, field in type(given).model_fields.items():
        value, own = getattr(given, name), getattr(machine, name)
        if name not in FREE_FIELDS[type(given)]:
            if value not in (own, field.get_default(call_default_factory=True)):
                raise MachineSettingError(
                    f"{where}.{name}: a setting of the machine's environment, not of a run; leave "
                    "it empty. `llm4cdsr down`, change the environment, `llm4cdsr up`"
                )
            merged[name] = own
        elif type(value) in FREE_FIELDS:
            merged[name] = _of_the_machine(value, own, f"{where}.{name}")
    return given.model_copy(update=merged)


def _absolute(place: str) -> str:
    return place.rstrip("/") if "://" in place else str(Path(place).resolve())
