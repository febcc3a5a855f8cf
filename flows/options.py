"""The options that commands share, each described once, and what they make together."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from flows.refresh import RefreshConfig
from flows.retrain import RetrainConfig
from flows.settings import Settings, default_llm
from tasks.budget import Budget
from tasks.cluster import ClusterConfig
from tasks.dump import DumpConfig
from tasks.dump_files import existing_file
from tasks.llm_config import LlmConfig, Provider
from tasks.profile import ProfileConfig
from tasks.recommend import RecommendationConfig
from tasks.train import TrainingConfig

Interactions = Annotated[
    str | None,
    typer.Option(help="File with user_id, item_id, domain, timestamp (Parquet, CSV, JSONL)."),
]
Items = Annotated[str | None, typer.Option(help="File with item_id, domain, title and more.")]
Name = Annotated[
    str | None, typer.Option(help="What to call the data; the dump's folder by default.")
]
Column = Annotated[
    list[str] | None, typer.Option(help="A column's name, as THEIRS=OURS; may be repeated.")
]
Domain = Annotated[list[str] | None, typer.Option(help="Keep only these domains; may be repeated.")]
MaxUsers = Annotated[int | None, typer.Option(min=1, help="Keep a seeded sample of users.")]
UserCore = Annotated[int, typer.Option(min=1, help="Least events of a user.")]
ItemCore = Annotated[int, typer.Option(min=1, help="Least events of an item.")]
ProfileUsers = Annotated[
    int | None, typer.Option(min=0, help="Profile a seeded sample of users; all by default.")
]
Clusters = Annotated[int, typer.Option(min=1, help="Interests that items fall into.")]
Preset = Annotated[str, typer.Option(help="Model preset: best, paper or released.")]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Most epochs of training; the preset's by default.")
]
Device = Annotated[
    str, typer.Option(help="Where to train: cpu, cuda, cuda:1, or auto: a GPU if there is one.")
]
PerDomain = Annotated[int, typer.Option(min=1, help="Recommendations a user and domain.")]
Seed = Annotated[int, typer.Option(min=0, help="Of samples, clusters and training.")]
WhoAnswers = Annotated[
    Provider | None,
    typer.Option(help="Who answers. auto: configured URL, else OpenAI if keyed, else local."),
]
StoreRoot = Annotated[str | None, typer.Option(help="Artifact store: a folder or an fsspec URL.")]
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


def dump_config(
    interactions: str | None,
    items: str | None,
    column: list[str] | None,
    domain: list[str] | None,
    max_users: int | None,
    user_core: int,
    item_core: int,
    seed: int,
) -> DumpConfig:
    """Returns which dump to read; raises where a file or a column's name is not usable."""
    if interactions is None:
        raise typer.BadParameter("give --interactions FILE (try `llm4cdsr demo-dump demo`)")
    return DumpConfig(
        interactions=str(existing_file(interactions).resolve()),
        items=None if items is None else str(existing_file(items).resolve()),
        columns=dict(_renaming(text) for text in column or ()),
        domains=tuple(domain) if domain else None,
        max_users=max_users,
        user_core=user_core,
        item_core=item_core,
        seed=seed,
    )


def refresh_config(clusters: int, profile_users: int | None, seed: int) -> RefreshConfig:
    return RefreshConfig(
        clusters=ClusterConfig(clusters=clusters, seed=seed),
        profiles=ProfileConfig(max_users=profile_users, seed=seed),
    )


def retrain_config(
    preset: str, epochs: int | None, device: str, per_domain: int, seed: int
) -> RetrainConfig:
    overrides: dict[str, dict[str, JsonValue]] = {"train": {"max_epochs": epochs}} if epochs else {}
    return RetrainConfig(
        training=TrainingConfig(preset=preset, overrides=overrides, seed=seed, device=device),
        recommendations=RecommendationConfig(per_domain=per_domain),
    )


def llm_config(
    settings: Settings,
    provider: Provider | None,
    max_usd: float | None = None,
    max_tokens: int | None = None,
    max_requests: int | None = None,
) -> LlmConfig:
    llm = default_llm(settings)
    given = {"max_usd": max_usd, "max_tokens": max_tokens, "max_requests": max_requests}
    limits = {name: limit for name, limit in given.items() if limit is not None}
    budget = Budget.model_validate({**llm.budget.model_dump(), **limits})
    return llm.model_copy(update={"provider": provider or llm.provider, "budget": budget})


def title_of(name: str | None, interactions: str | None) -> str:
    """Returns what to call the data in the report and in the Prefect UI."""
    return name or (Path(interactions).resolve().parent.name if interactions else "your data")


def _renaming(text: str) -> tuple[str, str]:
    theirs, separator, ours = text.partition("=")
    if not (theirs and separator and ours):
        raise typer.BadParameter(f"--column {text}: write THEIRS=OURS, as reviewerID=user_id")
    return theirs, ours
