"""What a dry run says is what a run then does, and it says it without asking anyone."""

from pathlib import Path

import pytest

from artifacts.ledger.answers import Role
from artifacts.store import Store
from flows.cli.dry_run import PlannedCalls, plan_refresh
from flows.cli.output.console import facts_of_plan, plan_table
from flows.refresh import RefreshConfig
from tasks.cluster import ClusterConfig, cluster_items
from tasks.cross_domains import CrossingConfig, cross_domains
from tasks.dump.dump_config import DumpConfig
from tasks.embed import embed_items
from tasks.llm.providers.endpoints import open_endpoints
from tasks.llm.settings.budget import Price
from tasks.llm.settings.llm_config import ChatConfig, EmbeddingConfig, LlmConfig, Provider
from tasks.llm.shards import shard_run
from tasks.name_clusters import name_clusters
from tasks.profile import ProfileConfig, profile_users
from tests.fakes import CHAT, EMBEDDINGS, FaultyServer, faulty_endpoint
from tests.tasks.shops.small_shop import MODELS, InlineShards, SmallShop

CONFIG = RefreshConfig(clusters=ClusterConfig(clusters=3))


@pytest.fixture(autouse=True)
def inline_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_run, "answer_shard", InlineShards())


def llm_at(server: FaultyServer, prices: dict[str, Price] | None = None) -> LlmConfig:
    url = server.base_url
    return LlmConfig(
        provider=Provider.OPENAI,
        chat=ChatConfig(base_url=url, model=MODELS[Role.CHAT]),
        embedding=EmbeddingConfig(base_url=url, model=MODELS[Role.EMBEDDING]),
        prices=prices or {},
    )


def plan(store: Store, llm: LlmConfig, config: RefreshConfig = CONFIG) -> dict[str, PlannedCalls]:
    SmallShop().ingested(store)
    folder = Path(store.root).parent / "dump"
    dump = DumpConfig(interactions=str(folder / "e.parquet"), items=str(folder / "i.parquet"))
    return {step.step: step for step in plan_refresh(dump, config, llm, store.root)}


def test_the_planned_calls_are_those_of_the_run_and_planning_asks_nobody(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with faulty_endpoint() as server:
        llm = llm_at(server)
        first = plan(store, llm)
        assert server.requests_to(CHAT) == server.requests_to(EMBEDDINGS) == 0
        assert first["embed items"].is_exact
        assert not first["analyze interests"].is_exact
        dataset = SmallShop().ingested(store)
        with open_endpoints(llm, tmp_path, tmp_path) as endpoints:
            embeddings = embed_items.fn(dataset, endpoints.embedding, llm, store.root).ref
            assert server.requests_to(EMBEDDINGS) == first["embed items"].requests == 1
        clusters = cluster_items.fn(embeddings, CONFIG.clusters, store.root).ref
        second = plan(store, llm)
        assert server.requests_to(CHAT) == 0
        with open_endpoints(llm, tmp_path, tmp_path) as endpoints:
            arguments = (dataset, clusters, endpoints, llm, CONFIG.profiles, store.root)
            profiled = profile_users.fn(*arguments)
            before = server.requests_to(CHAT)
            name_clusters.fn(dataset, clusters, endpoints.chat, llm, store.root)
            named = server.requests_to(CHAT) - before
        analyses = second["analyze interests"]
        assert analyses.is_exact
        assert analyses.requests <= first["analyze interests"].requests
        assert second["name clusters"].is_exact
        assert named == second["name clusters"].requests <= first["name clusters"].requests == 3
        summaries = server.requests_to(CHAT) - analyses.requests - named
        assert 0 < summaries <= second["summarize users"].requests
        assert profiled.usage.completion_tokens <= analyses.completion_tokens * 2
        third = plan(store, llm)
    assert [step.requests for step in third.values()] == [0, 0, 0]
    assert facts_of_plan(tuple(third.values())) == ["No prompt to send: all answers exist."]


def test_a_known_price_gives_a_cost_and_an_unknown_one_is_said_to_be_unknown(
    tmp_path: Path,
) -> None:
    price = Price(prompt=1.0, completion=2.0)
    with faulty_endpoint() as server:
        unknown = plan(Store(tmp_path / "one"), llm_at(server))
        prices = {MODELS[Role.CHAT]: price, MODELS[Role.EMBEDDING]: price}
        known = plan(Store(tmp_path / "two"), llm_at(server, prices))
    assert {step.usd for step in unknown.values()} == {None}
    assert "unknown" in facts_of_plan(tuple(unknown.values()))[0]
    for step in known.values():
        assert step.usd == price.usd(step.prompt_tokens, step.completion_tokens) > 0
    chat, embeddings = known["summarize users"], known["embed items"]
    first, second, *_ = facts_of_plan((chat, embeddings))
    assert first.startswith("About ")
    assert "again" in second  # The number is known once the answers exist.
    assert facts_of_plan((embeddings,))[0].startswith("At most ")
    assert plan_table(tuple(known.values())).row_count == 5


def test_questions_across_domains_are_counted_as_they_are_asked(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    config = CONFIG.model_copy(update={"crossings": CrossingConfig(enabled=True, items=1)})
    with faulty_endpoint() as server:
        llm = llm_at(server)
        assert "cross domains" not in plan(store, llm)
        first = plan(store, llm, config)["cross domains"]
        assert not first.is_exact
        dataset = SmallShop().ingested(store)
        with open_endpoints(llm, tmp_path, tmp_path) as endpoints:
            embeddings = embed_items.fn(dataset, endpoints.embedding, llm, store.root).ref
            clusters = cluster_items.fn(embeddings, config.clusters, store.root).ref
        planned = plan(store, llm, config)["cross domains"]
        assert planned.is_exact
        with open_endpoints(llm, tmp_path, tmp_path) as endpoints:
            asked = config.crossings
            cross_domains.fn(dataset, clusters, endpoints, llm, asked, store.root)
        assert server.requests_to(CHAT) == planned.requests
        assert 0 < planned.requests <= first.requests
        assert plan(store, llm, config)["cross domains"].requests == 0


def test_where_nobody_is_profiled_the_chat_model_is_asked_nothing(tmp_path: Path) -> None:
    nobody = CONFIG.model_copy(update={"profiles": ProfileConfig(max_users=0)})
    with faulty_endpoint() as server:
        planned = plan(Store(tmp_path / "store"), llm_at(server), nobody)
    assert "name clusters" not in planned
    assert planned["analyze interests"].requests == planned["summarize users"].requests == 0
