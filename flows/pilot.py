"""The pilot flow: measures the gain from the LLM before all users are profiled."""

from prefect import flow

from artifacts.bundles import parts_of
from artifacts.store import Store
from flows.operating import OPERATING, ended
from flows.refresh import RefreshConfig, Refreshed, refresh
from flows.server.run_parameters import refuse_other_places
from flows.settings import Settings
from flows.store_use import uses_store
from flows.unrecorded import call
from tasks.ablate import AblationConfig, ablate
from tasks.alerts.webhook import tell_webhook
from tasks.dump.dump_config import DumpConfig
from tasks.frame.stage import StageResult, StageResults
from tasks.llm.settings.llm_config import LlmConfig
from tasks.train import TrainingConfig


class PilotResult(StageResults):
    """A refresh with a sample of profiles, and its ablation."""

    refreshed: Refreshed
    ablation: StageResult


@flow(
    name="pilot",
    flow_run_name="pilot",
    timeout_seconds=OPERATING.flow_timeout_seconds,
    on_failure=[tell_webhook],
    on_crashed=[tell_webhook],
)
@uses_store
def pilot(
    dump: DumpConfig,
    refreshing: RefreshConfig,
    training: TrainingConfig,
    ablation: AblationConfig,
    llm: LlmConfig,
    store: str,
) -> PilotResult:
    """Refresh with the sample of profiles in ``refreshing``, then ablate; makes no release.

    All answers stay in the ledger for a later run.
    """
    refuse_other_places(Settings(), OPERATING.dumps, store, [])
    refreshed = call(refresh, dump, refreshing, llm, store)
    parts = parts_of(Store(store), refreshed.ref)
    measured = ablate(
        parts["dataset"],
        parts["tables"],
        parts["profiles"],
        training.resolved(),
        ablation,
        store,
        training.device,
    )
    return ended(PilotResult(refreshed=refreshed, ablation=measured), "measured on a sample")
