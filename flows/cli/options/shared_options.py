"""The options that commands share, each described once.

To list them imports no library that reads data, asks models or schedules: `--help` and completion
are quick. `flows.cli.options.configurations` makes of them what runs take.
"""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from artifacts.remote.url_credentials import put_aside
from prompts.language import Language
from prompts.profile_style import ProfileStyle
from tasks.dump.merge_mode import Mode
from tasks.llm.settings.batch_config import BatchKind
from tasks.llm.settings.provider import Provider


class SplitBy(StrEnum):
    """What is held out; see `tasks.dump.dump_config`."""

    LEAVE_ONE_OUT = "leave-one-out"
    TIME = "time"
    USERS = "users"
    COLD_DOMAIN = "cold-domain"


Interactions = Annotated[
    list[str] | None,
    typer.Option(
        help="File with user_id, item_id, domain, timestamp (Parquet, CSV, JSON); also a folder, a "
        "pattern in quotes, a URL (s3://…). May be repeated."
    ),
]
Items = Annotated[
    list[str] | None,
    typer.Option(help="The same with item_id, domain, title and more. May be repeated."),
]
Name = Annotated[
    str | None, typer.Option(help="What to call the data; the dump's folder by default.")
]
Column = Annotated[
    list[str] | None, typer.Option(help="A column's name, as THEIRS=OURS; may be repeated.")
]
Domain = Annotated[list[str] | None, typer.Option(help="Keep only these domains; may be repeated.")]
MaxUsers = Annotated[int | None, typer.Option(min=1, help="Keep a seeded sample of users.")]
UserCore = Annotated[
    int | None, typer.Option(min=1, help="Least events of a user; 1, or the data set's.")
]
ItemCore = Annotated[
    int | None, typer.Option(min=1, help="Least events of an item; 1, or the data set's.")
]
Dataset = Annotated[
    str | None, typer.Option(help="A data set by name (`llm4cdsr datasets`), or your .toml file.")
]
Raw = Annotated[Path | None, typer.Option(help="Folder with the raw files of --dataset.")]
Since = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day of events, UTC.")
]
Until = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day of events, UTC.")
]
Split = Annotated[
    SplitBy | None,
    typer.Option(
        help="What is held out: each user's last events, everything after a moment "
        "(--validation-from, --test-from; by default the last fifth), some users whole, or one "
        "whole domain of some users of several (cold-domain)."
    ),
]
FirstDay = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="With --split time: its first day.")
]
HowToMerge = Annotated[
    Mode, typer.Option(help="append: add the dump to the data of the last refresh.")
]
ProfileUsers = Annotated[
    int | None, typer.Option(min=0, help="Profile a seeded sample of users; all by default.")
]
CrossingQuestions = Annotated[
    bool,
    typer.Option(
        "--crossing-questions/--no-crossing-questions",
        help="Ask the language model what people who choose the items of a cluster look for in "
        "each other domain: a question a cluster and pair of domains.",
    ),
]
CrossingItems = Annotated[
    int,
    typer.Option(
        min=0, help="With --crossing-questions: so many much bought items a domain as well."
    ),
]
ProfileStyles = Annotated[
    ProfileStyle,
    typer.Option(
        help="Of the profiles: paper describes the person; retrieval lists product types, brands, "
        "uses and what is avoided, in the words of the titles."
    ),
]
Clusters = Annotated[int, typer.Option(min=1, help="Interests that items fall into.")]
Seed = Annotated[int, typer.Option(min=0, help="Of samples, clusters and training.")]
WhoAnswers = Annotated[
    Provider | None,
    typer.Option(help="Who answers. auto: configured URL, else OpenAI if keyed, else local."),
]
PromptLanguage = Annotated[
    Language | None, typer.Option(help="Of the prompts and profiles; the data set's, else English.")
]
Batches = Annotated[
    BatchKind | None,
    typer.Option(
        "--batch",
        help="Ask in batches: api, half the price within a day (OpenAI's Batch API); vllm, by "
        "`vllm run-batch` on this machine.",
    ),
]


def _put_aside(store: str | None) -> str | None:
    return store and put_aside(store)


StoreRoot = Annotated[
    str | None,
    typer.Option(callback=_put_aside, help="Artifact store: a folder or an fsspec URL."),
]
ReportFile = Annotated[Path | None, typer.Option(help="Copy the HTML report here.")]
SummaryFile = Annotated[
    Path | None, typer.Option(help="Write counts, costs, metrics and paths here, as JSON.")
]
MaxUsd = Annotated[
    float | None, typer.Option(min=0, help="Stop before the run has cost more US dollars.")
]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="Stop before the run has read and written more tokens.")
]
MaxRequests = Annotated[int | None, typer.Option(min=1, help="Stop after so many LLM requests.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print calls, tokens and cost; ask nothing.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show libraries' log lines.")]
