"""The refresh flow: a dump becomes item tables and user profiles."""

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import BaseModel, ConfigDict

from artifacts.store import Store
from flows.settings import Settings
from tasks.cluster import ClusterConfig, cluster_items
from tasks.dump import DumpConfig
from tasks.embed import embed_items
from tasks.endpoints import open_endpoints
from tasks.ingest import ingest
from tasks.llm_config import LlmConfig
from tasks.profile import ProfileConfig, profile_users
from tasks.project import ProjectConfig, project_items
from tasks.stage import StageResult


class RefreshConfig(BaseModel):
    """Everything that shapes item tables and profiles beside the dump and the models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clusters: ClusterConfig = ClusterConfig()
    profiles: ProfileConfig = ProfileConfig()
    tables: ProjectConfig = ProjectConfig()


class RefreshedTables(BaseModel):
    """What a refresh made or found; retraining starts from these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: StageResult
    embeddings: StageResult
    clusters: StageResult
    profiles: StageResult
    tables: StageResult

    @property
    def stages(self) -> tuple[StageResult, ...]:
        return (self.dataset, self.embeddings, self.clusters, self.profiles, self.tables)


@flow(name="refresh", task_runner=ThreadPoolTaskRunner(max_workers=2))
def refresh(
    dump: DumpConfig, llm: LlmConfig, config: RefreshConfig, settings: Settings
) -> RefreshedTables:
    """Ingest, embed, cluster, profile, project; each stage is reused where nothing changed."""
    root = settings.store
    logs = Store(root).workspace("logs")
    with open_endpoints(llm, settings.local_vllm, logs) as endpoints:
        dataset = ingest(dump, root)
        embeddings = embed_items(dataset.ref, endpoints.embedding, llm, root)
        clusters = cluster_items(embeddings.ref, config.clusters, root)
        profiles = profile_users(dataset.ref, clusters.ref, endpoints, llm, config.profiles, root)
        tables = project_items(dataset.ref, embeddings.ref, config.tables, root)
    return RefreshedTables(
        dataset=dataset,
        embeddings=embeddings,
        clusters=clusters,
        profiles=profiles,
        tables=tables,
    )
