"""A refresh against servers that made like tools fail, as they were reported.

Dumps and servers lie beside the repository; `tests.tasks.dump.test_reported_dumps` has the table of
all cases and their tests.
"""

from pathlib import Path

import polars as pl
import pytest

from artifacts.kinds.clusters import read_cluster_names
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.item_vectors import read_item_embeddings
from artifacts.kinds.user_profiles import read_user_profiles
from artifacts.ledger.answers import Role
from artifacts.ledger.ledger import Ledger
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from flows.cli.errors.endings import FAILED, status_of
from prompts.render import Language
from tasks.cluster import ClusterConfig, cluster_items
from tasks.dump.dump_config import DumpConfig
from tasks.embed import embed_items, item_texts
from tasks.frame.stage import StageResult
from tasks.ingest import ingest
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.servers.lanes import PROBE_REQUESTS
from tasks.llm.client.stop import EndpointDownError
from tasks.llm.providers.endpoints import Endpoint, Endpoints
from tasks.llm.settings.llm_config import EndpointSpec, LlmConfig
from tasks.name_clusters import name_clusters
from tasks.profile import ProfileConfig, profile_users
from tests.tasks.shops.reported_cases import (
    CASES,
    CLUSTER_NAME,
    WORDS,
    ReportedServer,
    needs_cases,
    reported_server,
    reported_vector,
)

pytestmark = [needs_cases, pytest.mark.usefixtures("inline_shards", "quick_retries")]

LLM = LlmConfig()
ITEMS, USERS = 50, 40
STATUS_FILE = "items.parquet"


class Refresh:
    """The stages of a refresh of a reported dump, one after the other."""

    def __init__(
        self,
        folder: Path,
        case: str,
        server: ReportedServer,
        chat_path: str = "/v1",
        embed_path: str = "/v1",
        outage_seconds: float = 60.0,
    ) -> None:
        self.store = Store(folder / "store")
        self._outage = outage_seconds
        self._endpoints = Endpoints(
            chat=self._endpoint(Role.CHAT, server.root + chat_path, temperature=0.2),
            embedding=self._endpoint(Role.EMBEDDING, server.root + embed_path),
        )
        dump = DumpConfig(
            interactions=str(CASES / case / "e.csv"), items=str(CASES / case / "i.csv")
        )
        self.dataset: ArtifactRef = ingest.fn(dump, self.store.root).ref

    def embedded(self) -> StageResult:
        return embed_items.fn(self.dataset, self._endpoints.embedding, LLM, self.store.root)

    def profiled(self) -> StageResult:
        self.clusters = cluster_items.fn(
            self.embedded().ref, ClusterConfig(clusters=3), self.store.root
        ).ref
        return profile_users.fn(
            self.dataset, self.clusters, self._endpoints, LLM, ProfileConfig(), self.store.root
        )

    def names(self) -> set[str]:
        made = name_clusters.fn(
            self.dataset, self.clusters, self._endpoints.chat, LLM, self.store.root
        )
        return set(read_cluster_names(self.store, made.ref).values())

    def require_right_vectors(self, made: StageResult, failed: int = 0) -> None:
        """Every item that did not fail has the vector of its own text."""
        found = read_item_embeddings(self.store, made.ref)
        texts = item_texts(read_dataset(self.store, self.dataset).items, Language.ENGLISH)
        for item, text in texts.iter_rows():
            if found.is_embedded[item]:
                assert found.vectors[item].tolist() == reported_vector(text)
        assert int(found.is_embedded.sum()) == ITEMS - failed
        assert made.counts["failed"] == failed

    def require_right_profiles(self, made: StageResult) -> None:
        """Every user has the server's words as profile and in each interest, and nothing else."""
        found = read_user_profiles(self.store, made.ref)
        assert found.profiles["profile"].to_list() == [WORDS] * USERS
        assert set(found.interests["interest"]) == {WORDS}
        assert found.failures.is_empty()
        assert self.names() == {CLUSTER_NAME}

    def paid(self) -> int:
        """Answers to questions that are kept."""
        ledger = Ledger(self.store.local, Role.CHAT)
        ledger.recover()
        with ledger.reading() as rows:
            return rows.select(pl.len()).collect().item()

    def _endpoint(self, role: Role, url: str, **parameters: float) -> Endpoint:
        spec = EndpointSpec(
            role=role,
            base_url=url,
            model="m",
            concurrency=8,
            timeout_seconds=20,
            max_retries=6,
            batch_size=64,
            outage_seconds=self._outage,
            parameters=dict(parameters),
        )
        return Endpoint("m", dict(parameters), (), lambda: spec)


def test_one_text_that_is_answered_500_fails_alone(tmp_path: Path) -> None:
    with reported_server("poison=Poisontext") as server:
        refresh = Refresh(tmp_path, "10-one-text-answered-500", server)
        made = refresh.embedded()
        refresh.require_right_vectors(made, failed=1)
        status = pl.read_parquet(refresh.store.path(made.ref) / STATUS_FILE)
        failed = status.filter(status="failed")
        assert failed["item_index"].to_list() == [1]
        assert "unsupported value: NaN" in failed["reason"].item()
        assert server.posted["embeddings", 200] + server.posted["embeddings", 500] <= 40


@pytest.mark.parametrize("mode", ["think", "nomaxtokens", "notemp"])
def test_answers_are_what_follows_the_thought_and_a_refused_field_is_learnt_once(
    tmp_path: Path, mode: str
) -> None:
    case = "11-reasoning-in-content" if mode == "think" else "12-parameters-refused"
    with reported_server(mode) as server:
        refresh = Refresh(tmp_path, case, server)
        refresh.require_right_profiles(refresh.profiled())
        assert server.posted["completions", 400] == (0 if mode == "think" else 1)
        assert refresh.paid() == server.posted["completions", 200]


@pytest.mark.parametrize("mode", ["noindex", "index0"])
def test_vectors_without_a_place_are_those_of_the_texts_in_order(tmp_path: Path, mode: str) -> None:
    with reported_server(mode) as server:
        refresh = Refresh(tmp_path, "14-embedding-index", server)
        refresh.require_right_vectors(refresh.embedded())
        assert server.posted == {("embeddings", 200): 1}


def test_a_query_in_the_address_stays_behind_the_route(tmp_path: Path) -> None:
    with reported_server("api-version-needed") as server:
        azure = "/openai/deployments/d?api-version=2024-06-01"
        refresh = Refresh(tmp_path, "15-azure-query-in-url", server, azure, azure)
        refresh.require_right_profiles(refresh.profiled())
        assert {status for _, status in server.posted} == {200}


ENDS = {
    "thinkopen": (
        "11-reasoning-in-content",
        EndpointRefusedError,
        "contains only reasoning .*max_tokens",
    ),
    "chat402": ("13-no-credit-402", EndpointRefusedError, "no credit left.*Insufficient Balance"),
    "after402": ("13-no-credit-402", EndpointRefusedError, "no credit left.*Insufficient Balance"),
    "chaterr200": (
        "16-errors-that-are-200",
        EndpointDownError,
        "rate limited: HTTP 200: Provider returned error: rate limited upstream",
    ),
    "html200": (
        "16-errors-that-are-200",
        EndpointRefusedError,
        "no API at this URL.*a web page, 'WebUI'",
    ),
}


@pytest.mark.parametrize("mode", ENDS)
def test_what_fails_every_prompt_ends_the_run_with_the_servers_words(
    tmp_path: Path, mode: str
) -> None:
    case, error, said = ENDS[mode]
    with reported_server(mode) as server:
        refresh = Refresh(tmp_path, case, server, outage_seconds=0.5)
        with pytest.raises(error, match=said) as raised:
            refresh.profiled()
        assert status_of(raised.value) == FAILED
        answered = 20 if mode == "after402" else 0
        asked = sum(count for (path, _), count in server.posted.items() if path == "completions")
        assert asked <= answered + PROBE_REQUESTS
        assert refresh.paid() == answered
