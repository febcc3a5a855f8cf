"""The refresh flow: a dump becomes item tables and user profiles."""

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import BaseModel, ConfigDict

from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from flows.settings import Settings, default_llm
from tasks.bundle import REFRESHED, bundle
from tasks.cluster import ClusterConfig, cluster_items
from tasks.dump import DumpConfig
from tasks.embed import embed_items
from tasks.endpoints import open_endpoints
from tasks.ingest import ingest
from tasks.llm_config import LlmConfig
from tasks.llm_shards import SHARDS_IN_FLIGHT
from tasks.profile import ProfileConfig, profile_users
from tasks.project import ProjectConfig, project_items
from tasks.stage import StageResult


class RefreshConfig(BaseModel):
    """Everything that shapes item tables and profiles beside the dump and the models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clusters: ClusterConfig = ClusterConfig()
    profiles: ProfileConfig = ProfileConfig()
    tables: ProjectConfig = ProjectConfig()


class Refreshed(BaseModel):
    """What a refresh made or found; ``ref`` bundles what retraining starts from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ref: ArtifactRef
    dataset: StageResult
    embeddings: StageResult
    clusters: StageResult
    profiles: StageResult
    tables: StageResult

    @property
    def stages(self) -> tuple[StageResult, ...]:
        return (self.dataset, self.embeddings, self.clusters, self.profiles, self.tables)


@flow(
    name="refresh",
    flow_run_name="refresh",
    task_runner=ThreadPoolTaskRunner(max_workers=SHARDS_IN_FLIGHT),  # pyright: ignore
)
def refresh(
    dump: DumpConfig,
    config: RefreshConfig | None = None,
    llm: LlmConfig | None = None,
    store: str | None = None,
) -> Refreshed:
    """Ingest, embed, cluster, profile, project; each stage is reused where nothing changed.

    Args:
        dump: the files to read.
        config: all defaults where None.
        llm: who answers; from the environment where None.
        store: where the artifacts are; LLM4CDSR_STORE where None.
    """
    settings = Settings()
    config = config or RefreshConfig()
    llm = llm or default_llm(settings)
    root = store or settings.store
    opened = Store(root)
    with open_endpoints(llm, settings.local_vllm, opened.workspace("logs")) as endpoints:
        dataset = ingest(dump, root)
        embeddings = embed_items(dataset.ref, endpoints.embedding, llm, root)
        clusters = cluster_items(embeddings.ref, config.clusters, root)
        profiles = profile_users(dataset.ref, clusters.ref, endpoints, llm, config.profiles, root)
        tables = project_items(dataset.ref, embeddings.ref, config.tables, root)
    stages = {
        "dataset": dataset,
        "embeddings": embeddings,
        "clusters": clusters,
        "profiles": profiles,
        "tables": tables,
    }
    parts = {role: stage.ref for role, stage in stages.items()}
    return Refreshed(
        ref=bundle(opened, Kind.REFRESH, REFRESHED, parts),
        dataset=dataset,
        embeddings=embeddings,
        clusters=clusters,
        profiles=profiles,
        tables=tables,
    )
