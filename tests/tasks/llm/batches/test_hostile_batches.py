"""Answers of a hostile or faulty Batch API: bounded, not trusted, no key in messages."""

import json
from collections.abc import Iterator

import httpx2
import polars as pl
import pytest

from artifacts import columns as col
from artifacts.ledger.answers import Role
from artifacts.ledger.ledger import Ledger
from artifacts.store import Store
from tasks.llm.answer_all import Answered, answer_all
from tasks.llm.batches import bounded_client
from tasks.llm.batches.openai_api import BatchRefusedError
from tasks.llm.providers.dummy_endpoint import write_answer
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.shards.shard import AskingStep
from tests.fake_batch import BatchPlan, batch_server
from tests.tasks.llm.batches.asking_in_batches import QUICK, TEXTS, ask
from tests.tasks.shops.small_shop import endpoint_of, spec_of

pytestmark = pytest.mark.usefixtures("inline_shards")

EXPECTED = {write_answer(text, 50)[0] for text in TEXTS}


def texts_of(found: Answered) -> set[str]:
    return set(found.answers["text"])


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br"])
def test_a_compressed_file_of_results_is_refused_before_it_is_unpacked(
    store: Store, encoding: str
) -> None:
    with batch_server(BatchPlan(encoding=encoding)) as server:
        with pytest.raises(BatchRefusedError, match=f"compressed by '{encoding}'"):
            ask(server.base_url, store)
        server.plan = BatchPlan(encoding="identity")
        assert texts_of(ask(server.base_url, store)) == EXPECTED


def test_every_other_answer_of_the_batch_api_is_bounded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.llm.batches.batch_run.MOST_BYTES", 50)
    with (
        batch_server() as server,
        pytest.raises(BatchRefusedError, match="an answer of more than"),
    ):
        ask(server.base_url, store)


def test_an_answer_that_trickles_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("tasks.llm.batches.bounded_client.time.monotonic", lambda: now[0])

    class Parts(httpx2.SyncByteStream):
        def __init__(self, size: int) -> None:
            self.size = size

        def __iter__(self) -> Iterator[bytes]:
            while True:
                now[0] += 1
                yield bytes(self.size)

    def read(size: int, most: int) -> None:
        list(bounded_client._Bounded(Parts(size), most, 10))

    with pytest.raises(httpx2.ReadError, match=r"^11 bytes of an answer in 11 s$"):
        read(1, 10**9)
    with pytest.raises(httpx2.ReadError, match=r"more than 1\.5 MiB"):
        read(bounded_client.LEAST_SPEED, 3 * 2**19)  # Slow, and no trickle.


def test_lines_that_are_no_results_of_the_batch_change_nothing(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.llm.batches.batch_files.MOST_CHAT_BYTES", 5_000)
    body = {"choices": [{"message": {"content": "tea"}, "finish_reason": "stop"}]}
    stranger = {"custom_id": "0" * 64, "response": {"status_code": 200, "body": body}}
    lines = [b"", b'{"custom_id": "k', b"[" * 3_000, b"x" * 12_000, json.dumps(stranger).encode()]
    with batch_server(BatchPlan(before=b"\n".join([*lines, b""]))) as server:
        found = ask(server.base_url, store, QUICK.model_copy(update={"max_lines": 50}))
    assert texts_of(found) == EXPECTED
    assert Ledger(store.local, Role.CHAT).missing(pl.Series(["0" * 64])).len() == 1
    assert caplog.text.count("lines are no results") == 1
    assert "5 lines" in caplog.text


def test_a_batch_is_known_by_the_id_of_its_creation(store: Store) -> None:
    with batch_server(BatchPlan(renamed=True)) as server:
        assert texts_of(ask(server.base_url, store)) == EXPECTED


def test_an_error_of_a_batch_or_a_prompt_that_quotes_the_key_does_not_leak_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM4CDSR_API_KEY", "sk-secret")
    keyed = pl.DataFrame({col.KEY: ["0" * 64], "prompt": ['{"messages": [{"content": "tea"}]}']})
    plan = BatchPlan(told=" for sk-secret", fail_as="invalid_model", refuse="tea")
    with batch_server(plan) as server:
        spec = spec_of(server.base_url, Role.CHAT, key_variable="LLM4CDSR_API_KEY")
        config = LlmConfig(batch=QUICK, max_failed_share=1.0)
        step = AskingStep("t", Role.CHAT, endpoint_of(spec), config, store, 50)
        with pytest.raises(BatchRefusedError, match=r"a reason for \[key\]"):
            answer_all(step, keyed)
        found = answer_all(step, keyed)
    assert found.failures["reason"].to_list() == ["HTTP 400 a refused word for [key]"]
