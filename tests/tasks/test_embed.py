"""Items to vectors: nobody is dropped, nothing is paid twice, failures are tried again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import tasks.ingest as ingest_stage
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.item_vectors import read_item_embeddings
from artifacts.manifest import COMPLETE, ArtifactRef
from artifacts.store import Store
from prompts.render import Language
from tasks import embed as embed_stage
from tasks.dump.trainable import NothingToTrainOnError
from tasks.embed import NothingEmbeddedError, embed_items, embeddings_identity, item_texts
from tasks.frame.stage import StageResult
from tasks.llm.providers.dummy_endpoint import embed_texts
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import LlmConfig
from tests.fakes import EMBEDDINGS, FaultPlan, faulty_endpoint
from tests.tasks.shops.small_shop import LENIENT, SmallShop, endpoint_of, spec_of

pytestmark = pytest.mark.usefixtures("inline_shards")


def embedding_at(base_url: str) -> Endpoint:
    return endpoint_of(spec_of(base_url, max_retries=0))


def embedded(
    store: Store, dataset: ArtifactRef, endpoint: Endpoint, config: LlmConfig = LENIENT
) -> StageResult:
    return embed_items.fn(dataset, endpoint, config, store.root)


def test_every_item_has_a_vector_and_those_without_text_stand_at_their_domains_mean(
    store: Store,
) -> None:
    dataset = SmallShop().ingested(store)
    with faulty_endpoint() as server:
        made = embedded(store, dataset, embedding_at(server.base_url))
    read = read_item_embeddings(store, made.ref)
    data = read_dataset(store, dataset)
    assert read.vectors.shape == (10, 384)
    assert not read.vectors[0].any()
    for number in range(2):
        rows = np.arange(data.domain_starts[number] + 1, data.domain_starts[number + 1] + 1)
        texted = [row for row in rows if data.items["title"][int(row) - 1]]
        assert read.is_embedded[rows].tolist() == [row in texted for row in rows]
        mean = read.vectors[texted].mean(axis=0)
        for row in set(rows) - set(texted):
            np.testing.assert_allclose(read.vectors[row], mean, atol=1e-6)
    texts = item_texts(data.items, Language.ENGLISH)["prompt"].to_list()
    for row in np.flatnonzero(read.is_embedded):
        np.testing.assert_array_equal(read.vectors[row], embed_texts([texts[row - 1]])[0])
    assert made.counts["without_text"] == 2
    assert made.counts["failed"] == 0


def test_an_identical_run_finds_its_artifact_and_asks_nothing(store: Store) -> None:
    dataset = SmallShop().ingested(store)
    with faulty_endpoint() as server:
        endpoint = embedding_at(server.base_url)
        first = embedded(store, dataset, endpoint)
        before = server.requests_to(EMBEDDINGS)
        second = embedded(store, dataset, endpoint)
        assert server.requests_to(EMBEDDINGS) == before > 0
    assert (first.reused, second.reused) == (False, True)
    assert first.ref == second.ref
    assert second.usage.requests == 0


def test_a_lost_artifact_is_made_again_from_the_ledger_alone(store: Store) -> None:
    dataset = SmallShop().ingested(store)
    with faulty_endpoint() as server:
        endpoint = embedding_at(server.base_url)
        first = embedded(store, dataset, endpoint)
        before = read_item_embeddings(store, first.ref).vectors.copy()
        (store.path(first.ref) / "vectors.safetensors").unlink()
        asked = server.requests_to(EMBEDDINGS)
        second = embedded(store, dataset, endpoint)
        assert server.requests_to(EMBEDDINGS) == asked
    np.testing.assert_array_equal(read_item_embeddings(store, second.ref).vectors, before)


def test_an_artifact_with_failed_items_is_not_the_complete_one_and_only_they_are_tried_again(
    store: Store,
) -> None:
    dataset = SmallShop().ingested(store)
    with faulty_endpoint(FaultPlan(refuse="Yoga")) as server:
        endpoint = embedding_at(server.base_url)
        first = embedded(store, dataset, endpoint)
        wanted = embeddings_identity(dataset, endpoint, LENIENT)
        assert store.find(wanted) is None
        assert store.manifest(first.ref).outcome != COMPLETE
        assert first.counts["failed"] == 2
        status = pl.read_parquet(store.path(first.ref) / "items.parquet")
        failed = status.filter(pl.col("status") == "failed")
        assert failed["reason"].str.contains("refused word").all()
        partial = read_item_embeddings(store, first.ref)
        assert not partial.is_embedded[failed["item_index"].to_numpy()].any()

        again = embedded(store, dataset, endpoint)
        assert again.ref == first.ref  # The same items failed: the same artifact.

        server.plan = FaultPlan()
        server.answered.clear()
        mended = embedded(store, dataset, endpoint)
        sent = [text for exchange in server.answered for text in exchange.prompts]
    assert len(sent) == 2
    assert all("Yoga" in text for text in sent)
    assert mended.ref == wanted.ref
    assert mended.usage.reused == 5
    assert read_item_embeddings(store, mended.ref).is_embedded.sum() == 7


def test_the_model_its_parameters_the_language_and_the_template_identify_embeddings(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = SmallShop().ingested(store)
    endpoint = embedding_at("http://127.0.0.1:9/v1")
    found = {embeddings_identity(dataset, endpoint, LENIENT).fingerprint}
    for other in (
        Endpoint("m", endpoint.parameters, (), endpoint.spec),
        Endpoint(endpoint.model, {"dimensions": 3}, (), endpoint.spec),
    ):
        found.add(embeddings_identity(dataset, other, LENIENT).fingerprint)
    monkeypatch.setattr(embed_stage, "prompt_version", lambda language, name: "another")
    found.add(embeddings_identity(dataset, endpoint, LENIENT).fingerprint)
    assert len(found) == 4
    monkeypatch.undo()
    same = embeddings_identity(dataset, endpoint, LlmConfig(shard_size=3, max_retries=1))
    assert same.fingerprint in found  # How it is asked changes nothing of what is asked.


def test_a_domain_without_any_text_is_refused_before_others_are_paid(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = SmallShop()
    mute = {key: None if key[0] == "books" else title for key, title in shop.titles.items()}
    with pytest.raises(NothingToTrainOnError, match="domain books"):
        replace(shop, titles=mute).ingested(store)
    # A dataset of a store from before ingest asked is refused by the stage itself.
    monkeypatch.setattr(ingest_stage, "require_trainable", lambda data: None)
    dataset = replace(shop, titles=mute).ingested(store)
    with faulty_endpoint() as server:
        with pytest.raises(NothingEmbeddedError, match="domain books"):
            embedded(store, dataset, embedding_at(server.base_url))
        assert server.requests_to(EMBEDDINGS) == 0


def test_equal_texts_share_one_answer(store: Store) -> None:
    shop = SmallShop()
    same = {key: title and "One Same Title" for key, title in shop.titles.items()}
    dataset = replace(shop, titles=same).ingested(store)
    with faulty_endpoint() as server:
        made = embedded(store, dataset, embedding_at(server.base_url))
        assert server.requests_to(EMBEDDINGS) == 1
    assert made.usage.merged == 6
    vectors = read_item_embeddings(store, made.ref).vectors
    np.testing.assert_allclose(vectors[1:], np.tile(vectors[1], (9, 1)), atol=1e-6)


@pytest.mark.parametrize("items", [1, 4])
def test_slices_of_any_size_give_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: int
) -> None:
    made = []
    for size in (16_384, items):
        monkeypatch.setattr(embed_stage, "SLICE_ITEMS", size)
        store = Store(tmp_path / str(size))
        dataset = SmallShop().ingested(store)
        with faulty_endpoint(FaultPlan(refuse="Yoga")) as server:
            result = embedded(store, dataset, embedding_at(server.base_url))
            assert server.requests_to(EMBEDDINGS) > 0
        folder = store.path(result.ref)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        files.pop("manifest.json")
        made.append((files, result.counts, result.usage.prompts, result.usage.failed))
    assert made[0] == made[1]
