"""The pilot flow: measures the gain from the LLM before all users are profiled."""

from prefect import flow

from artifacts.bundles import parts_of
from artifacts.store import Store
from flows.operating import OPERATING, ended
from flows.refresh import RefreshConfig, Refreshed, refresh
from flows.server.end_hooks import alert_end
from flows.store_use import uses_store
from flows.unrecorded import call
from tasks.ablate import AblationConfig, ablate
from tasks.choose_preset import as_chosen, choose_preset
from tasks.dump.dump_config import DumpConfig
from tasks.frame.stage import StageResult, StageResults
from tasks.frame.training_config import TrainingConfig
from tasks.frame.training_sources import TrainingSources
from tasks.llm.settings.llm_config import LlmConfig


class PilotResult(StageResults):
    """A refresh with a sample of profiles, and its ablation."""

    refreshed: Refreshed
    ablation: StageResult


@flow(
    name="pilot",
    flow_run_name="pilot",
    timeout_seconds=OPERATING.flow_timeout_seconds,
    on_failure=[alert_end],
    on_crashed=[alert_end],
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
    refreshed = call(refresh, dump, refreshing, llm, store)
    opened = Store(store)
    sources = TrainingSources.of(parts_of(opened, refreshed.ref))
    if training.is_automatic:
        training = as_chosen(opened, choose_preset(sources, training, store), training)
    measured = ablate(sources, training.resolved(), ablation, store, training.device)
    return ended(PilotResult(refreshed=refreshed, ablation=measured), "measured on a sample")
