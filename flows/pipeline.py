"""The pipeline flow: from a dump to recommendations."""

from prefect import flow

from flows.operating import OPERATING, ended
from flows.refresh import RefreshConfig, Refreshed, refresh
from flows.retrain import Release, RetrainConfig, outcome_of, retrain, state_name
from flows.server.end_hooks import alert_end
from flows.store_use import uses_store
from flows.unrecorded import call
from tasks.dump.dump_config import DumpConfig
from tasks.frame.stage import StageResults
from tasks.llm.settings.llm_config import LlmConfig


class PipelineResult(StageResults):
    """Results of refresh and retrain."""

    refreshed: Refreshed
    release: Release


@flow(
    name="pipeline",
    flow_run_name="pipeline {name}",
    timeout_seconds=OPERATING.flow_timeout_seconds,
    on_completion=[alert_end],
    on_failure=[alert_end],
    on_crashed=[alert_end],
    on_cancellation=[alert_end],
)
@uses_store
def pipeline(
    dump: DumpConfig | None = None,
    name: str = "your data",
    refreshing: RefreshConfig | None = None,
    retraining: RetrainConfig | None = None,
    llm: LlmConfig | None = None,
    store: str | None = None,
    folder: str | None = None,
    of_store: str | None = None,
) -> PipelineResult:
    """Refresh, then retrain on its artifacts. Arguments are those of the two flows. Ends in the
    state ``Held`` if the model does not pass the promotion gate, and ``Skipped`` if an event of
    another store started it."""
    training = (retraining or RetrainConfig()).training.model_dump(mode="json")
    refreshed = call(refresh, dump, refreshing, llm, store, folder, training)
    release = call(retrain, retraining, name, refreshed.ref, refreshed.stages, store)
    done = PipelineResult(refreshed=refreshed, release=release)
    verdict = release.verdict
    return ended(done, f"{outcome_of(verdict)}: {verdict.summary}", state_name(verdict))
