"""`vllm run-batch`: the files of the Batch API, answered without a server."""

from dataclasses import replace
from pathlib import Path

import pytest

from artifacts import columns as col
from artifacts.ledger.answers import Role, vectors_of
from artifacts.ledger.ledger import Ledger
from artifacts.store import Store
from tasks.llm.answer_all import answer_all, embedding_keys
from tasks.llm.batches.batch_folders import (
    batch_folders,
)
from tasks.llm.batches.vllm_batch import VllmBatchError
from tasks.llm.providers.dummy_endpoint import write_answer
from tasks.llm.providers.dummy_models import CHAT_MODEL
from tasks.llm.providers.endpoints import open_endpoints
from tasks.llm.providers.local_setup import find_local_environment
from tasks.llm.settings.batch_config import BatchConfig, BatchKind
from tasks.llm.settings.llm_config import LlmConfig, Provider
from tasks.llm.shards.shard import AskingStep
from tests.tasks.llm.batches.asking_in_batches import TEXTS, ask

pytestmark = pytest.mark.usefixtures("inline_shards")

LOCAL_VLLM = Path(__file__).parents[4] / ".venv-vllm"


def test_vllm_run_batch_answers_the_same_files_without_a_server(
    store: Store, vllm: BatchConfig
) -> None:
    found = ask("http://127.0.0.1:9/v1", store, vllm)
    assert set(found.answers["text"]) == {
        write_answer(text, 50)[0] for place, text in enumerate(TEXTS) if place != 3
    }
    assert found.failures["reason"].to_list() == ["HTTP 400 a refused word"]
    assert batch_folders(Ledger(store.local, Role.CHAT)) == []
    log = store.workspace("logs") / "vllm-run-batch-chat.log"
    assert "loading the-weights" in log.read_text()


def test_vllm_without_results_is_an_error_with_the_log(store: Store, vllm: BatchConfig) -> None:
    broken = vllm.model_copy(update={"vllm_chat_weights": "broken"})
    with pytest.raises(VllmBatchError, match=rf"{CHAT_MODEL}.*vllm-run-batch-chat\.log"):
        ask("http://127.0.0.1:9/v1", store, broken)
    found = ask("http://127.0.0.1:9/v1", store, vllm)
    assert found.answers.height == 8


@pytest.mark.local_vllm
@pytest.mark.skipif(
    find_local_environment(LOCAL_VLLM) is None,
    reason="no local vLLM environment: run `llm4cdsr setup-local`",
)
def test_the_real_vllm_answers_a_file_and_its_keys_are_the_servers(store: Store) -> None:
    in_batches = LlmConfig(provider=Provider.LOCAL, batch=BatchConfig(kind=BatchKind.VLLM))
    with open_endpoints(in_batches, LOCAL_VLLM, store.workspace("logs")) as endpoints:
        embedding = endpoints.embedding
        keyed = embedding_keys(["red tea of Assam", "black tea of Assam", "a hammer"], embedding)
        step = AskingStep("test", Role.EMBEDDING, embedding, in_batches, store)
        found = answer_all(step, keyed)
        assert found.usage.requests == 3
        online = in_batches.model_copy(update={"batch": None})
        again = answer_all(replace(step, config=online), keyed)
    assert again.usage.requests == 0
    rows = keyed.join(again.answers, on=col.KEY, how="left", maintain_order="left")
    red, black, hammer = vectors_of(rows)
    assert red.shape == (384,)
    assert red @ black > red @ hammer + 0.2
