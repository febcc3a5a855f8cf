"""The refresh flow: from a dump to item tables and user profiles."""

from itertools import chain
from pathlib import PurePosixPath

from prefect import flow
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from pydantic import JsonValue

from artifacts.bundles import CLUSTER_NAMES, CROSSINGS, REFRESHED, bundle
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from artifacts.strict import Strict
from flows.operating import OPERATING, ended, patient, refuse_budget_elsewhere, shard_threads
from flows.server.end_hooks import alert_end
from flows.server.run_parameters import files_of, llm_of_run, refuse_other_places
from flows.settings import Settings
from flows.store_use import uses_store
from tasks.alerts.announcements import announce_refresh
from tasks.alerts.stories import publish_refresh_summary
from tasks.cluster import ClusterConfig, cluster_items
from tasks.cross_domains import CrossingConfig, cross_domains
from tasks.dump.dump_config import DumpConfig
from tasks.dump.sources.dump_watch import dump_to_read
from tasks.dump.sources.source_files import folder_name
from tasks.embed import embed_items
from tasks.frame.stage import RunFacts, StageResult, StageResults
from tasks.ingest import ingest
from tasks.llm.providers.changed_models import warn_of_changed_models
from tasks.llm.providers.endpoints import open_endpoints
from tasks.llm.settings.batch_config import refuse_budget_in_batches
from tasks.llm.settings.engine import EngineSettings
from tasks.llm.settings.llm_config import LlmConfig
from tasks.name_clusters import name_clusters
from tasks.profile import ProfileConfig, profile_users
from tasks.project import ProjectConfig, project_items
from tasks.promoting.promotion import was_decided

NARROW_EMBEDDING = 384
"""Embedding width of common small models."""


class RefreshConfig(Strict):
    """Settings of item tables and profiles, apart from the dump and the LLMs."""

    clusters: ClusterConfig = ClusterConfig()
    profiles: ProfileConfig = ProfileConfig()
    crossings: CrossingConfig = CrossingConfig()
    tables: ProjectConfig = ProjectConfig()


class Refreshed(StageResults):
    """Artifacts of a refresh; ``ref`` is the bundle that retraining reads.

    ``changed``: no release was made from these artifacts yet. ``names``: cluster names, None if no
    user is profiled. ``crossings``: None without cross-domain questions.
    """

    ref: ArtifactRef
    changed: bool
    dataset: StageResult
    embeddings: StageResult
    clusters: StageResult
    profiles: StageResult
    names: StageResult | None
    crossings: StageResult | None
    tables: StageResult


def _is_of_its_own() -> bool:
    """Returns whether this run is not part of a pipeline, without a request to the server as by
    `prefect.runtime`."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return run is not None and run.parent_task_run_id is None


def _dump_name() -> str:
    """Returns the folder name of the run's dump."""
    given = flow_run.parameters
    dump, folder = given.get("dump"), given.get("folder")
    if folder is None and dump is not None:
        return folder_name(DumpConfig.model_validate(dump).files[0].interactions)
    return PurePosixPath(folder or OPERATING.dumps).name


def _run_name() -> str:
    return f"refresh {_dump_name()}"


@flow(
    name="refresh",
    flow_run_name=_run_name,
    task_runner=shard_threads(),
    timeout_seconds=OPERATING.flow_timeout_seconds,
    on_completion=[alert_end],
    on_failure=[alert_end],
    on_crashed=[alert_end],
    on_cancellation=[alert_end],
)
@uses_store
def refresh(
    dump: DumpConfig | None = None,
    config: RefreshConfig | None = None,
    llm: LlmConfig | None = None,
    store: str | None = None,
    folder: str | None = None,
    training: dict[str, JsonValue] | None = None,
) -> Refreshed:
    """Ingest, embed, cluster, profile, name, ask across domains, project.

    Unchanged stages are reused.

    Outside of a pipeline, a refresh with artifacts that no model was trained on emits the event
    ``llm4cdsr.refresh.changed``.

    Args:
        dump: input files and filters.
        config: all defaults if None.
        llm: LLM settings; from the environment if None. Runs started through the Prefect API cannot
            set provider, URLs or models: see `flows.server.run_parameters`.
        store: where the artifacts are; LLM4CDSR_STORE where None.
        folder: a folder with interactions.* and items.*, to be read instead of the files of
            ``dump``. Where neither is given, the newest dump in LLM4CDSR_DUMPS.
        training: fields of the `TrainingConfig` with which a model is to be trained on this machine
            afterwards, if one is; a catalogue too large for it is refused before anything is asked.
    """
    settings = Settings()
    config = config or RefreshConfig()
    refuse_other_places(settings, OPERATING.dumps, store, chain([folder], files_of(dump)))
    llm = llm_of_run(llm, settings)
    refuse_budget_elsewhere(EngineSettings(), llm.budget)
    refuse_budget_in_batches(llm.batch, llm.budget)
    root = store or settings.store
    opened = Store(root)
    before = opened.pointed(REFRESHED)
    with open_endpoints(llm, settings.local_vllm, opened.workspace("logs")) as endpoints:
        warn_of_changed_models(opened, endpoints)
        dataset = ingest(dump_to_read(dump, folder, OPERATING.dumps), root)
        if training is not None:
            _refuse_large_catalogue(int(dataset.counts["items"]), training)
        embeddings = patient(embed_items)(dataset.ref, endpoints.embedding, llm, root)
        clusters = cluster_items(embeddings.ref, config.clusters, root)
        profiles = patient(profile_users)(
            dataset.ref, clusters.ref, endpoints, llm, config.profiles, root
        )
        names = None
        if config.profiles.max_users != 0:
            names = patient(name_clusters)(dataset.ref, clusters.ref, endpoints.chat, llm, root)
        crossings = None
        if config.crossings.enabled:
            crossings = patient(cross_domains)(
                dataset.ref, clusters.ref, endpoints, llm, config.crossings, root
            )
        tables = project_items(dataset.ref, embeddings.ref, config.tables, root)
    stages = {
        "dataset": dataset,
        "embeddings": embeddings,
        "clusters": clusters,
        "profiles": profiles,
        "tables": tables,
    }
    parts = {role: stage.ref for role, stage in stages.items()}
    if crossings is not None:
        parts[CROSSINGS] = crossings.ref
    shown = {} if names is None else {CLUSTER_NAMES: names.ref}
    made = Refreshed(
        ref=bundle(opened, Kind.REFRESH, REFRESHED, {**parts, **shown}),
        changed=not was_decided(opened, parts),
        names=names,
        crossings=crossings,
        **stages,
    )
    publish_refresh_summary(opened, made.stages, before, changed=made.changed)
    if made.changed and _is_of_its_own():
        announce_refresh(opened, made.ref, _dump_name())
    return ended(made, _outcome(made))


def _refuse_large_catalogue(items: int, training: dict[str, JsonValue]) -> None:
    """Checks with a minimum embedding width, before the width is known; training checks again."""
    from tasks.frame.training_config import TrainingConfig
    from tasks.train import refuse_large_catalogue  # Imports PyTorch, which takes seconds.

    refuse_large_catalogue(items, NARROW_EMBEDDING, TrainingConfig.model_validate(training))


def _outcome(made: Refreshed) -> str:
    usage = RunFacts(made.stages).usage
    what = "new data to train on" if made.changed else "nothing new since the last training"
    return f"{what}; {usage.requests:,} prompts sent, {usage.reused:,} found in the ledger"
