"""The pipeline flow: a dump goes in, recommendations come out."""

from prefect import flow
from pydantic import BaseModel, ConfigDict

from flows.refresh import RefreshConfig, Refreshed, refresh
from flows.retrain import Release, RetrainConfig, retrain
from tasks.dump import DumpConfig
from tasks.llm_config import LlmConfig
from tasks.stage import StageResult


class PipelineResult(BaseModel):
    """Both halves of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    refreshed: Refreshed
    release: Release

    @property
    def stages(self) -> tuple[StageResult, ...]:
        return (*self.refreshed.stages, *self.release.stages)


@flow(name="pipeline", flow_run_name="pipeline: {name}")
def pipeline(
    dump: DumpConfig,
    name: str = "your data",
    refreshing: RefreshConfig | None = None,
    retraining: RetrainConfig | None = None,
    llm: LlmConfig | None = None,
    store: str | None = None,
) -> PipelineResult:
    """Refresh, then retrain on what was refreshed. Arguments as of the two flows."""
    refreshed = refresh(dump, refreshing, llm, store)
    release = retrain(retraining, name, refreshed.ref, refreshed.stages, store)
    return PipelineResult(refreshed=refreshed, release=release)
