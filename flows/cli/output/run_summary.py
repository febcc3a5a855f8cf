"""JSON summary of a run for scripts: `llm4cdsr run --summary FILE.json`."""

from pathlib import Path

import numpy as np

from artifacts.files.private_files import share_as_usual
from artifacts.kinds.ablation import AblationRow, read_ablation
from artifacts.kinds.dataset import QUARANTINE, Dataset, read_dataset
from artifacts.kinds.results import METRICS, RANKS, QuotedFigures, quoted_figures, read_table
from artifacts.store import Store
from artifacts.strict import Strict
from flows.cli.output.console import CHOICE_STAGE
from model.scoring.groups import FIRST_IN_DOMAIN
from tasks.frame.stage import RunFacts, StageResult
from tasks.promoting.baseline_lead import BaselineLead, baseline_lead


class DomainSummary(Strict):
    users: int
    items: int
    events: int


class DatasetSummary(Strict):
    """``overlap``: users active in several domains; ``quarantined``: rows of both files."""

    domains: dict[str, DomainSummary]
    users: int
    items: int
    events: int
    overlap: int
    quarantined: int
    items_without_text: int | None


class LlmFacts(Strict):
    """Prompts sent, found in the ledger, failed; tokens and US dollars of sent prompts.

    ``usd`` excludes the ``unpriced`` prompts of models with unknown price.
    """

    requests: int
    reused: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    usd: float
    unpriced: int


class RunSummary(Strict):
    """``metrics``: model -> ``full`` or ``sampled`` -> ``overall`` or a domain -> metric -> value;
    of withheld domains model -> ``cold domain`` -> ``overall`` or the withheld domain -> metric.
    ``first_in_domain``: the same of held-out events whose user had none in their domain before.
    ``left_out`` held-out events have too few candidates to be measured; a figure of such alone is
    null. ``lead``: that over the strongest baseline, null without one. ``preset``: the preset
    chosen for this data and the reason, null for a named preset. ``ablation``: contribution of item
    texts and user profiles, measured on a sample of users.

    ``seconds`` are wall-clock, by stage; ``artifacts`` are folders (or URLs), by kind.
    """

    dataset: DatasetSummary | None
    llm: LlmFacts
    metrics: QuotedFigures
    first_in_domain: QuotedFigures
    left_out: int
    lead: BaselineLead | None
    preset: str | None
    ablation: tuple[AblationRow, ...]
    seconds: dict[str, float]
    artifacts: dict[str, str]
    notes: list[str]


def summarise(store: Store, stages: tuple[StageResult, ...]) -> RunSummary:
    """Returns the summary of a run's stages; ``dataset`` is None if no dump was read."""
    facts = RunFacts(stages)
    by_name = facts.by_name
    metrics = read_table(store, by_name["evaluate"].ref, METRICS) if "evaluate" in by_name else None
    return RunSummary(
        dataset=_dataset_facts(store, by_name) if "ingest" in by_name else None,
        llm=LlmFacts(**facts.usage.model_dump(include=set(LlmFacts.model_fields))),
        metrics={} if metrics is None else quoted_figures(metrics),
        first_in_domain={} if metrics is None else quoted_figures(metrics, FIRST_IN_DOMAIN),
        left_out=int(facts.counts("evaluate").get("left_out", 0)),
        lead=baseline_lead(read_table(store, by_name["evaluate"].ref, RANKS))
        if "evaluate" in by_name
        else None,
        preset=next(iter(by_name[CHOICE_STAGE].notes), None) if CHOICE_STAGE in by_name else None,
        ablation=read_ablation(store, by_name["ablate"].ref) if "ablate" in by_name else (),
        seconds={stage.stage: stage.seconds for stage in stages},
        artifacts={stage.ref.kind.value: str(store.path(stage.ref)) for stage in stages},
        notes=facts.notes,
    )


def write_summary(path: Path, store: Store, stages: tuple[StageResult, ...]) -> Path:
    """Writes `summarise` as JSON; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(summarise(store, stages).model_dump_json(indent=2) + "\n", "utf-8")
    share_as_usual(path)
    return path.resolve()


def _dataset_facts(store: Store, stages: dict[str, StageResult]) -> DatasetSummary:
    ingested = stages["ingest"]
    data = read_dataset(store, ingested.ref)
    active = data.in_domain()
    embedded = stages.get("embed items")
    return DatasetSummary(
        domains=_by_domain(data, active),
        users=len(data.users),
        items=len(data.items),
        events=len(data.item_indices),
        overlap=int((active.sum(axis=1) > 1).sum()),
        quarantined=read_table(store, ingested.ref, QUARANTINE).height,
        items_without_text=None if embedded is None else int(embedded.counts["without_text"]),
    )


def _by_domain(data: Dataset, active: np.ndarray) -> dict[str, DomainSummary]:
    items = np.diff(data.domain_starts)
    events = np.bincount(data.domain_of_event, minlength=len(data.domains))
    return {
        name: DomainSummary(
            users=int(active[:, number].sum()),
            items=int(items[number]),
            events=int(events[number]),
        )
        for number, name in enumerate(data.domains)
    }
