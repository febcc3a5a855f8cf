"""Execution of a stage: look up the artifact, make it if missing, report.

A stage with unchanged inputs and parameters returns its existing artifact (DESIGN, decision 1).
Stages exchange `StageResult`, never frames or tensors.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from artifacts.drafts import Draft
from artifacts.manifest import ArtifactRef, Identity
from artifacts.store import Store
from artifacts.strict import Strict

if TYPE_CHECKING:
    from prefect import Task

Given = ParamSpec("Given")
Result = TypeVar("Result")

logger = logging.getLogger("llm4cdsr")
logger.setLevel(
    logging.INFO
)  # Otherwise a worker's default level WARNING hides these lines in the UI.


class LlmUsage(Strict):
    """LLM usage of a stage.

    ``prompts``: needed; ``merged``: equal to another one; ``reused``: found in the ledger;
    ``requests``: sent now; ``failed``: without a usable answer. Tokens and ``usd`` are those of the
    requests, ``usd`` without the ``unpriced`` prompts of models with unknown price.
    """

    prompts: int = 0
    merged: int = 0
    reused: int = 0
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0

    def __add__(self, other: "LlmUsage") -> "LlmUsage":
        mine, theirs = self.model_dump(), other.model_dump()
        return LlmUsage(**{name: mine[name] + theirs[name] for name in mine})


class StageResult(Strict):
    """A stage's artifact with its origin and usage. ``seconds`` are wall-clock."""

    stage: str
    ref: ArtifactRef
    reused: bool
    seconds: float
    counts: dict[str, int | float]
    notes: list[str]
    usage: LlmUsage = LlmUsage()


class StageResults(Strict):
    """Base of what a flow returns: fields that hold results of stages, or of other flows."""

    @property
    def stages(self) -> tuple[StageResult, ...]:
        """The stages of all fields, in the order of the fields."""
        found: list[StageResult] = []
        for _, value in self:
            if isinstance(value, StageResult):
                found.append(value)
            elif isinstance(value, StageResults):
                found += value.stages
        return tuple(found)


def stage_task(name: str) -> "Callable[[Callable[Given, Result]], Task[Given, Result]]":
    """Returns the decorator of a stage's task, without Prefect's cache: the store has results."""
    from prefect import task  # Commands read results of stages without Prefect.
    from prefect.cache_policies import NO_CACHE

    return task(name=name, task_run_name=name, cache_policy=NO_CACHE)


def run_stage(
    store: Store, stage: str, identity: Identity, make: Callable[[Draft], None]
) -> StageResult:
    """Returns the artifact of ``identity``, made by ``make`` if missing."""
    started = time.monotonic()
    found = store.find(identity)
    if found is None:
        logger.info("%s: working", stage)
        with store.create(identity) as draft:
            make(draft)
    return stage_result(store, stage, identity.ref, started, reused=found is not None)


def stage_result(
    store: Store,
    stage: str,
    ref: ArtifactRef,
    started: float,
    *,
    reused: bool,
    usage: LlmUsage | None = None,
) -> StageResult:
    """Returns and logs a stage's result; ``started`` is a `time.monotonic` reading."""
    manifest = store.manifest(ref)
    result = StageResult(
        stage=stage,
        ref=ref,
        reused=reused,
        seconds=round(time.monotonic() - started, 2),
        counts=manifest.counts,
        notes=manifest.notes,
        usage=usage or LlmUsage(),
    )
    logger.info("%s: %s", stage, _outcome(result))
    return result


def _outcome(result: StageResult) -> str:
    facts = ", ".join(f"{name} {value:,}" for name, value in result.counts.items())
    how = "unchanged, reused" if result.reused else f"done in {result.seconds:.1f} s"
    return f"{how} ({facts})" if facts else how


class RunFacts:
    """The stages of a run: ``by_name``, their LLM usage and their notes."""

    def __init__(self, stages: Iterable[StageResult]) -> None:
        self.by_name = {stage.stage: stage for stage in stages}
        self.asking = [stage for stage in self.by_name.values() if stage.usage.prompts]
        """Stages that needed answers of a language model."""
        self.usage = sum((stage.usage for stage in self.asking), start=LlmUsage())
        self.notes = sorted({note for stage in self.by_name.values() for note in stage.notes})
        """Distinct notes of all artifacts."""

    def counts(self, stage: str) -> dict[str, int | float]:
        """Returns the counts of a stage, an empty dictionary if it did not run."""
        return self.by_name[stage].counts if stage in self.by_name else {}
