"""The options that commands share, each described once.

Importing this module loads no data, LLM or scheduling library, so that `--help` and completion are
fast. `flows.cli.options.configurations` converts options to the parameters of flows.
"""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from artifacts.remote.url_credentials import hide_credentials
from prompts.language import Language
from prompts.profile_style import ProfileStyle
from tasks.dump.merge_mode import Mode
from tasks.llm.settings.batch_config import BatchKind
from tasks.llm.settings.provider import Provider


class SplitBy(StrEnum):
    """Kinds of splits; see `tasks.dump.dump_config`."""

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
    typer.Option(
        help="File with item_id, domain, title and optional columns; forms as for "
        "--interactions. May be repeated."
    ),
]
Name = Annotated[
    str | None, typer.Option(help="Display name of the data; by default the dump's folder.")
]
Column = Annotated[
    list[str] | None,
    typer.Option(
        help="Map a column name, as NAME_IN_FILE=NAME, or DOMAIN:NAME_IN_FILE=NAME for files given "
        "as DOMAIN=FILE; may be repeated."
    ),
]
Domain = Annotated[list[str] | None, typer.Option(help="Keep only these domains; may be repeated.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        help="Keep only interactions that fulfil this condition on another column: 'rating>=4', "
        "'event=purchase', 'status!=refunded'; may be repeated."
    ),
]
MaxUsers = Annotated[int | None, typer.Option(min=1, help="Keep a seeded sample of users.")]
UserCore = Annotated[
    int | None,
    typer.Option(min=1, help="Minimum events per user; by default 1, or the data set's value."),
]
ItemCore = Annotated[
    int | None,
    typer.Option(min=1, help="Minimum events per item; by default 1, or the data set's value."),
]
Dataset = Annotated[
    str | None,
    typer.Option(help="Name of a public data set (`llm4cdsr datasets`), or your .toml file."),
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
        help="Held-out events: each user's last events, all events after a time "
        "(--validation-from, --test-from; by default the last fifth), all events of a "
        "sample of users, or all events in one domain of a sample of cross-domain users "
        "(cold-domain)."
    ),
]
ValidationFrom = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="With --split time: first day of validation events."),
]
TestFrom = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="With --split time: first day of test events."),
]
MergeMode = Annotated[
    Mode, typer.Option(help="append: add the dump to the data of the last refresh.")
]
ProfileUsers = Annotated[
    int | None, typer.Option(min=0, help="Profile a seeded sample of users; all by default.")
]
CrossingQuestions = Annotated[
    bool,
    typer.Option(
        "--crossing-questions/--no-crossing-questions",
        help="Ask the LLM what users of a cluster's items look for in each other domain: one "
        "prompt per cluster and domain pair.",
    ),
]
CrossingItems = Annotated[
    int,
    typer.Option(
        min=0, help="With --crossing-questions: also ask about this many top items per domain."
    ),
]
ProfileStyles = Annotated[
    ProfileStyle,
    typer.Option(
        help="Content of profiles: paper describes the user; retrieval lists product types, "
        "brands, uses and avoided features in the words of the titles."
    ),
]
Clusters = Annotated[int, typer.Option(min=1, help="Number of item clusters (interests).")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of samples, clusters and training.")]
LlmProvider = Annotated[
    Provider | None,
    typer.Option(
        help="LLM provider. auto: configured URL, else OpenAI if its key is set, else local."
    ),
]
PromptLanguage = Annotated[
    Language | None,
    typer.Option(help="Language of prompts and profiles; by default the data set's, or English."),
]
Batches = Annotated[
    BatchKind | None,
    typer.Option(
        "--batch",
        help="Send prompts in batches: api, OpenAI's Batch API (half the price, up to a "
        "day); vllm, `vllm run-batch` on this machine.",
    ),
]


def _hide_credentials(store: str | None) -> str | None:
    return store and hide_credentials(store)


StoreRoot = Annotated[
    str | None,
    typer.Option(
        callback=_hide_credentials,
        help="Artifact store: a folder or an fsspec URL; by default LLM4CDSR_STORE.",
    ),
]
ReportFile = Annotated[Path | None, typer.Option(help="Path for a copy of the HTML report.")]
SummaryFile = Annotated[
    Path | None, typer.Option(help="Path for a JSON file with counts, costs, metrics and paths.")
]
MaxUsd = Annotated[
    float | None, typer.Option(min=0, help="Limit of the run's LLM cost in US dollars.")
]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="Limit of the run's input and output tokens.")
]
MaxRequests = Annotated[int | None, typer.Option(min=1, help="Limit of the run's LLM requests.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print calls, tokens and cost; send no prompt.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show log lines of libraries.")]
