"""A whole small run on the demo's dump: what the report says of it, and that no key is in it."""

import logging
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from artifacts.kinds.clusters import write_cluster_names
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.results import RECOMMENDATIONS, REPORT, read_table, scan_recommendations
from artifacts.kinds.user_profiles import read_user_profiles
from artifacts.ledger.answers import Role
from artifacts.manifest import Kind, identity
from artifacts.shown_users import shown_users
from artifacts.store import Store
from tasks.cluster import ClusterConfig, cluster_items
from tasks.demo.demo_dump import write_demo_dump
from tasks.dump.dump_config import DumpConfig
from tasks.embed import embed_items
from tasks.evaluate import EvaluationConfig, evaluate
from tasks.frame.stage import LlmUsage, StageResult
from tasks.frame.training_sources import TrainingSources
from tasks.ingest import ingest
from tasks.llm.providers.endpoints import DUMMY_NOTE, open_endpoints
from tasks.llm.settings.llm_config import ChatConfig, EmbeddingConfig, LlmConfig, Provider
from tasks.llm.shards import shard_run
from tasks.name_clusters import name_clusters
from tasks.profile import ProfileConfig, profile_users
from tasks.project import ProjectConfig, project_items
from tasks.recommend import RecommendationConfig, recommend
from tasks.report import ReportSources, report, report_content
from tasks.reporting.facts.examples import TYPICAL_HISTORY, profile_examples
from tasks.reporting.page import render_report
from tasks.train import TrainingConfig, train
from tests.fakes import faulty_endpoint
from tests.tasks.shops.small_shop import MODELS, InlineShards

OPENAI_KEY, OWN_KEY = "sk-openai-0123456789", "own-9876543210"
TRAINING = TrainingConfig(
    preset="best",
    overrides={
        "model": {"hidden": 16, "heads": 2, "blocks": 1},
        "train": {"max_epochs": 2, "refit": False},
    },
)


@dataclass(frozen=True)
class Run:
    """Every stage of one run, by the role of its artifact."""

    store: Store
    stages: dict[str, StageResult]
    log: str

    @property
    def sources(self) -> ReportSources:
        return ReportSources.model_validate(
            {
                role: self.stages[role].ref
                for role in ReportSources.model_fields
                if role in self.stages
            }
        )


def refresh(store: Store, dump: DumpConfig, llm: LlmConfig) -> dict[str, StageResult]:
    root = store.root
    with open_endpoints(llm, store.local / "venv", store.workspace("logs")) as endpoints:
        dataset = ingest.fn(dump, root)
        embeddings = embed_items.fn(dataset.ref, endpoints.embedding, llm, root)
        clusters = cluster_items.fn(embeddings.ref, ClusterConfig(clusters=4), root)
        profiles = profile_users.fn(
            dataset.ref, clusters.ref, endpoints, llm, ProfileConfig(max_users=20), root
        )
        names = name_clusters.fn(dataset.ref, clusters.ref, endpoints.chat, llm, root)
        tables = project_items.fn(dataset.ref, embeddings.ref, ProjectConfig(hidden=16), root)
    return {
        "dataset": dataset,
        "embeddings": embeddings,
        "clusters": clusters,
        "profiles": profiles,
        "cluster_names": names,
        "tables": tables,
    }


def retrain(store: Store, made: dict[str, StageResult]) -> dict[str, StageResult]:
    root, dataset = store.root, made["dataset"].ref
    sources = TrainingSources(dataset, made["tables"].ref, made["profiles"].ref)
    model = train.fn(sources, TRAINING, root)
    metrics = evaluate.fn(dataset, model.ref, EvaluationConfig(candidates=20), root)
    best = recommend.fn(dataset, model.ref, RecommendationConfig(per_domain=5), root)
    return {"model": model, "metrics": metrics, "recommendations": best}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    store, lines = Store(folder / "store"), list[str]()
    write_demo_dump(folder / "dump", users=60, items=80)
    dump = DumpConfig(
        interactions=str(folder / "dump" / "interactions.parquet"),
        items=str(folder / "dump" / "items.parquet"),
    )
    handler = logging.Handler(level=logging.DEBUG)
    handler.emit = lambda record: lines.append(logging.Formatter().format(record))
    root = logging.getLogger()
    with pytest.MonkeyPatch.context() as patch, faulty_endpoint() as server:
        patch.setenv("OPENAI_API_KEY", OPENAI_KEY)
        patch.setenv("LLM4CDSR_API_KEY", OWN_KEY)
        patch.setattr(shard_run, "answer_shard", InlineShards())
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            llm = LlmConfig(
                chat=ChatConfig(base_url=server.base_url, model=MODELS[Role.CHAT]),
                embedding=EmbeddingConfig(base_url=server.base_url, model=MODELS[Role.EMBEDDING]),
            )
            stages = refresh(store, dump, llm)
            stages |= retrain(store, stages)
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
    return Run(store, stages, "\n".join(lines))


def test_no_key_is_in_a_log_a_manifest_an_artifact_or_the_ledger(run: Run) -> None:
    assert "llm" in run.log
    files = [path for path in run.store.local.rglob("*") if path.is_file()]
    assert {path.parts[len(run.store.local.parts)] for path in files} >= {"ledger", "model"}
    for key in (OPENAI_KEY, OWN_KEY):
        assert key not in run.log
        for path in files:
            assert key.encode() not in path.read_bytes(), path


def test_the_report_tells_of_every_part_of_the_run(run: Run) -> None:
    stages = tuple(run.stages.values())
    made = report.fn(run.sources, "the demo", stages, run.store.root)
    page = (run.store.path(made.ref) / REPORT).read_text(encoding="utf-8")
    content = report_content(run.store, run.sources, "the demo", stages)
    assert "Recommendations for the demo" in page
    assert content.dataset is not None
    assert content.dataset.users == run.stages["dataset"].counts["users"]
    assert content.dataset.events == run.stages["dataset"].counts["events"]
    assert [domain.name for domain in content.dataset.domains] == ["books", "gear"]
    assert sum(cluster.items for cluster in content.clusters) == content.dataset.items
    assert content.learning_curve is not None
    assert content.learning_curve.height == 2
    assert {stage.stage for stage in content.stages if stage.usage.prompts} == {
        "embed items",
        "profile users",
        "name clusters",
    }
    assert content.stages == stages
    assert content.transitions is not None
    moves = sum(map(sum, content.transitions.counts))
    assert moves == content.dataset.events - 3 * content.dataset.users  # Two of each are held out.
    assert {
        name: curve[-1] for name, curve in ((c.name, c.points) for c in content.concentration)
    } == {
        "books": (1.0, 1.0),
        "gear": (1.0, 1.0),
    }
    assert sum(day.answers for day in content.answers) > content.dataset.items
    assert [figure.name for figure in content.releases] == ["this report's model"]
    assert made.ref.fingerprint in page
    assert content.profiles
    assert content.cross_domain
    for example in content.profiles:
        assert example.profile is not None
        assert example.profile.split(".")[0][:30] in page
        assert example.partial
    for stage in stages:
        assert stage.stage in page
    assert (content.chat_model, content.embedding_model) == ("dummy-chat", "dummy-embedding")


def test_a_profile_is_shown_beside_the_events_it_was_made_from(run: Run) -> None:
    data = read_dataset(run.store, run.stages["dataset"].ref)
    profiles = read_user_profiles(run.store, run.stages["profiles"].ref)
    table = scan_recommendations(run.store, run.stages["recommendations"].ref)
    labels = {number: str(number) for number in range(4)}
    shown = profile_examples(data, profiles, table, labels, shown_users(run.store))
    events = data.train_events().join(
        data.items.select(pl.col("item_index").cast(pl.Int32), "title", "domain"), on="item_index"
    )
    for example in shown:
        user = data.users.row(by_predicate=pl.col("user_id") == example.user_id, named=True)
        seen = events.filter(pl.col("user_index") == user["user_index"])["title"].to_list()
        assert TYPICAL_HISTORY[0] <= user["events"] <= TYPICAL_HISTORY[1]
        assert [e.title for e in example.history if "(no title" not in e.title] == [
            title for title in seen[-len(example.history) :] if title
        ]


def test_recommendations_are_whole_and_counted(run: Run) -> None:
    table = read_table(run.store, run.stages["recommendations"].ref, RECOMMENDATIONS)
    users = int(run.stages["dataset"].counts["users"])
    assert table.height == users * 2 * 5
    assert run.stages["recommendations"].counts["rows"] == table.height
    assert table["score"].is_finite().all()


def test_a_dummy_behind_a_configured_url_is_still_called_one(run: Run) -> None:
    marked = {role for role, stage in run.stages.items() if DUMMY_NOTE in stage.notes}
    assert marked >= {"embeddings", "profiles", "model", "metrics", "recommendations"}
    assert report_content(run.store, run.sources, "x", ()).dummy


def test_a_run_on_the_dummy_says_so_everywhere(run: Run, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    dump = DumpConfig(
        interactions=str(run.store.local.parent / "dump" / "interactions.parquet"),
        items=str(run.store.local.parent / "dump" / "items.parquet"),
        max_users=30,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_run, "answer_shard", InlineShards())
        stages = refresh(store, dump, LlmConfig(provider=Provider.DUMMY))
        stages |= retrain(store, stages)
    marked = {role for role, stage in stages.items() if DUMMY_NOTE in stage.notes}
    assert marked >= {"embeddings", "profiles", "model", "metrics", "recommendations"}
    sources = Run(store, stages, "").sources
    content = report_content(store, sources, "x", tuple(stages.values()))
    assert content.dummy
    assert "dummy endpoint" in render_report(content)


def test_clusters_go_by_the_names_that_a_model_gave_them_everywhere(run: Run) -> None:
    wanted = identity(Kind.CLUSTER_NAMES, {"by": "hand"}, {})
    with run.store.create(wanted) as draft:
        names = pl.DataFrame({"cluster": [0, 1, 2, 3], "name": ["Pots", "Hikes", "Tea", "Yoga"]})
        write_cluster_names(draft.path, names, pl.DataFrame())
    sources = run.sources.model_copy(update={"cluster_names": wanted.ref})
    content = report_content(run.store, sources, "x", ())
    expected = {"0 · Pots", "1 · Hikes", "2 · Tea", "3 · Yoga"}
    assert {cluster.cluster for cluster in content.clusters} == expected
    assert content.item_map is not None
    assert set(content.item_map["cluster"]) == expected
    assert {part.cluster for shown in content.profiles for part in shown.partial} <= expected
    page = render_report(content)
    assert all(name in page for name in expected)


def test_a_dummys_names_give_way_to_central_titles(run: Run) -> None:
    content = report_content(run.store, run.sources, "x", ())
    for cluster in content.clusters:
        assert cluster.cluster.split(" · ")[1][:20] == cluster.examples[0][:20]


def test_a_report_is_made_once_for_the_same_artifacts(run: Run) -> None:
    first = report.fn(run.sources, "once", (), run.store.root)
    again = report.fn(run.sources, "once", tuple(run.stages.values()), run.store.root)
    assert again.reused
    assert again.ref == first.ref
    assert not any(path.name.endswith(".tmp") for path in (run.store.local / Kind.REPORT).iterdir())


def test_usage_adds_up_by_its_parts() -> None:
    total = LlmUsage(prompts=3, requests=2, failed=1) + LlmUsage(prompts=4, prompt_tokens=9)
    assert total == LlmUsage(prompts=7, requests=2, failed=1, prompt_tokens=9)
