"""Batches: every prompt ends answered or with its reason, and none is paid twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response

from artifacts import columns as col
from artifacts.ledger.answers import Role
from artifacts.ledger.check import verify
from artifacts.ledger.ledger import Ledger
from artifacts.store import Store
from tasks.llm.answer_all import Answered, answer_all, embedding_keys
from tasks.llm.batches.batch_files import BatchHeader, chunks_of, results_in
from tasks.llm.batches.batch_folders import (
    BatchRecord,
    WaitingInBatchError,
    batch_folders,
    left_by_others,
    new_folder,
)
from tasks.llm.batches.openai_api import MOST_RESULT_BYTES, BatchRefusedError
from tasks.llm.client.checks.answer_checks import TOO_LONG
from tasks.llm.client.checks.vector_checks import VectorWidth
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.servers.transport import MOST_CHAT_BYTES
from tasks.llm.client.stop import AskingStoppedError, stop_asking
from tasks.llm.providers.dummy_endpoint import embed_texts, running_app, write_answer
from tasks.llm.settings.batch_config import BatchConfig
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.shards.shard import AskingStep
from tests.fake_batch import BatchPlan, BatchServer, batch_server
from tests.fakes import CHAT, faulty_endpoint
from tests.tasks.llm.batches.asking_in_batches import QUICK, TEXTS, ask
from tests.tasks.shops.small_shop import endpoint_of, spec_of

pytestmark = pytest.mark.usefixtures("inline_shards")


def texts_of(found: Answered) -> set[str]:
    return set(found.answers["text"])


EXPECTED = {write_answer(text, 50)[0] for text in TEXTS}


def open_batches(store: Store) -> int:
    return len(batch_folders(Ledger(store.local, Role.CHAT)))


def test_batches_answer_everything_and_leave_nothing_behind(store: Store) -> None:
    with batch_server() as server:
        found = ask(server.base_url, store)
        assert len(server.batches) == 3  # 9 prompts, 4 a file.
        assert server.files == {}  # Prompts and answers are a customer's data.
    assert texts_of(found) == EXPECTED
    assert found.failures.is_empty()
    assert (found.usage.requests, found.usage.completion_tokens) == (9, 45)
    assert open_batches(store) == 0


def test_batch_and_online_answers_are_the_same_and_neither_pays_for_the_others(
    store: Store,
) -> None:
    with faulty_endpoint() as online:
        ask(online.base_url, store, None, TEXTS[:5])
        assert online.requests_to(CHAT) == 5
        with batch_server() as server:
            found = ask(server.base_url, store)
            assert sum(server.paid.values()) == 4
        ask(online.base_url, store, None)
        assert online.requests_to(CHAT) == 5
    assert texts_of(found) == EXPECTED
    assert found.usage.reused == 5


def test_an_answer_of_too_many_words_is_kept_and_marked_and_not_asked_for_again(
    store: Store,
) -> None:
    with batch_server() as server:
        found = ask(server.base_url, store, max_words=2)
        assert set(server.paid.values()) == {1}
    assert texts_of(found) == EXPECTED
    assert set(found.answers["finish_reason"]) == {TOO_LONG}


def test_embeddings_are_batched_too(store: Store) -> None:
    with batch_server() as server:
        endpoint = endpoint_of(spec_of(server.base_url))
        keyed = embedding_keys(TEXTS, endpoint)
        config = LlmConfig(batch=QUICK)
        found = answer_all(AskingStep("test", Role.EMBEDDING, endpoint, config, store), keyed)
    held = dict(found.answers.select(col.KEY, "vector").iter_rows())
    for key, text in keyed.iter_rows():
        vector = np.frombuffer(held[key], "<f4")
        np.testing.assert_allclose(vector, embed_texts([text])[0], rtol=1e-6)


def test_an_expired_batch_gives_what_it_has_and_the_rest_is_asked_again(store: Store) -> None:
    with batch_server(BatchPlan(expire_after=3)) as server:
        found = ask(server.base_url, store, QUICK.model_copy(update={"max_lines": 50}))
        assert [batch["status"] for batch in server.batches.values()] == ["expired", "completed"]
        assert set(server.paid.values()) == {1}
    assert texts_of(found) == EXPECTED


def test_a_refused_prompt_fails_with_its_reason_and_passing_faults_are_sent_again(
    store: Store,
) -> None:
    plan = BatchPlan(refuse="number 3", limit="number 5", broken="number 7")
    with batch_server(plan) as server:
        found = ask(server.base_url, store)
        assert len(server.batches) == 4
        assert set(server.paid.values()) == {1}
    assert found.answers.height == 8
    assert found.failures["reason"].to_list() == ["HTTP 400 a refused word"]


def test_what_keeps_failing_is_given_up_with_its_reason(store: Store) -> None:
    with batch_server(BatchPlan(limit="number 5")) as server:
        found = ask(server.base_url, store, QUICK.model_copy(update={"rounds": 1}))
        assert found.failures["reason"].to_list() == ["in 1 batches: HTTP 429 slow down"]
        again = ask(server.base_url, store)
    assert again.failures.is_empty()
    assert again.usage.requests == 1


def test_a_cancelled_batch_keeps_its_answers_and_says_so(store: Store) -> None:
    with batch_server(BatchPlan(cancel_after=3)) as server:
        whole = QUICK.model_copy(update={"max_lines": 50})
        with pytest.raises(BatchRefusedError, match="was cancelled; its answers so far are kept"):
            ask(server.base_url, store, whole)
        found = ask(server.base_url, store, whole)
        assert found.usage.reused == 3
        assert set(server.paid.values()) == {1}
    assert texts_of(found) == EXPECTED


def test_a_batch_that_fails_as_a_whole_is_named_and_sent_anew_by_the_next_run(
    store: Store,
) -> None:
    with batch_server(BatchPlan(fail_as="invalid_model")) as server:
        with pytest.raises(BatchRefusedError, match="invalid_model: a reason"):
            ask(server.base_url, store)
        found = ask(server.base_url, store)
        assert set(server.paid.values()) == {1}
    assert texts_of(found) == EXPECTED
    assert open_batches(store) == 0


def test_a_full_queue_is_waited_for(store: Store) -> None:
    with batch_server(BatchPlan(full_at=1, looks=2)) as server:
        found = ask(server.base_url, store)
        assert set(server.paid.values()) == {1}
    assert texts_of(found) == EXPECTED


def test_no_more_batches_wait_at_once_than_configured(store: Store) -> None:
    with batch_server(BatchPlan(looks=2)) as server:
        small = QUICK.model_copy(update={"max_lines": 1, "in_flight": 3})
        ask(server.base_url, store, small)
        assert server.peak_waiting == 3


def test_a_lost_answer_to_a_creation_does_not_make_a_second_batch(store: Store) -> None:
    with batch_server(BatchPlan(lose_create=True)) as server:
        found = ask(server.base_url, store)
        assert len(server.batches) == 3
        assert set(server.paid.values()) == {1}
    assert texts_of(found) == EXPECTED


def test_a_wrong_key_is_an_error_without_the_key_in_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM4CDSR_API_KEY", "sk-secret")
    with batch_server(BatchPlan(key="another")) as server:
        spec = spec_of(server.base_url, Role.CHAT, key_variable="LLM4CDSR_API_KEY")
        keyed = pl.DataFrame({col.KEY: ["0" * 64], "prompt": ['{"messages": []}']})
        config = LlmConfig(batch=QUICK)
        with pytest.raises(EndpointRefusedError) as refusal:
            answer_all(AskingStep("t", Role.CHAT, endpoint_of(spec), config, store, 50), keyed)
    assert "sk-secret" not in str(refusal.value)


def test_a_refusal_that_quotes_the_key_does_not_leak_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLM4CDSR_API_KEY", "sk-secret\n")
    keyed = pl.DataFrame({col.KEY: ["0" * 64], "prompt": ['{"messages": [{"content": "tea"}]}']})
    with batch_server(BatchPlan(key="another", wrong_key_status=400)) as server:
        spec = spec_of(server.base_url, Role.CHAT, key_variable="LLM4CDSR_API_KEY")
        config = LlmConfig(batch=QUICK)
        step = AskingStep("t", Role.CHAT, endpoint_of(spec), config, store, 50)
        with pytest.raises(BatchRefusedError, match=r"wrong key \[key\]") as refusal:
            answer_all(step, keyed)
        server.plan = BatchPlan(key="sk-secret", keep_files=True)
        answer_all(step, keyed)
    assert "may not delete" in caplog.text
    assert "sk-secret" not in caplog.text + str(refusal.value)
    # A trace would show what it came from.
    assert refusal.value.__suppress_context__


def test_a_download_that_is_cut_is_named_and_done_again_by_the_next_run(store: Store) -> None:
    with batch_server(BatchPlan(cut_content=True)) as server:
        with pytest.raises(BatchRefusedError, match=r"failed to process a batch.*run again"):
            ask(server.base_url, store)
        server.plan = BatchPlan()
        found = ask(server.base_url, store)
        assert set(server.paid.values()) == {1}
    assert texts_of(found) == EXPECTED


def test_results_larger_than_answers_can_be_are_refused_before_they_fill_the_disk(
    store: Store,
) -> None:
    most = len(TEXTS) * MOST_RESULT_BYTES
    one = BatchConfig(poll_seconds=0.02)
    with (
        batch_server(BatchPlan(padding=2 * most)) as server,
        pytest.raises(BatchRefusedError, match=r"exceed 9 MB for 9 prompts.*delete"),
    ):
        ask(server.base_url, store, one)
    (folder,) = batch_folders(Ledger(store.local, Role.CHAT))
    assert (folder.path / "0.results.jsonl").stat().st_size < 1.5 * most


def test_a_line_longer_than_a_response_may_be_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "0.results.jsonl"
    good = b'{"custom_id": "a", "response": {"status_code": 400}}\n'
    path.write_bytes(b'{"custom_id": "' + b"x" * 2 * MOST_CHAT_BYTES + b'"}\n' + good)
    assert [result.key for result in results_in(path, Role.CHAT, VectorWidth(None))] == ["a"]


def test_a_server_without_a_batch_api_is_named_with_the_way_out(store: Store) -> None:
    with (
        faulty_endpoint() as server,
        pytest.raises(BatchRefusedError, match=r"no Batch API.*omit --batch"),
    ):
        ask(server.base_url, store)


def test_files_keep_to_both_limits() -> None:
    prompts = pl.DataFrame({col.KEY: [f"k{n}" for n in range(50)], "prompt": ["x" * 40] * 50})
    asked = BatchHeader(Role.EMBEDDING, "m", {})
    whole = list(chunks_of(prompts, asked, 50_000, 200_000_000))
    assert [len(lines) for lines in whole] == [50]
    by_lines = list(chunks_of(prompts, asked, 20, 10**9))
    assert [len(lines) for lines in by_lines] == [20, 20, 10]
    by_bytes = list(chunks_of(prompts, asked, 10**9, 2_000))
    assert max(sum(map(len, lines)) for lines in by_bytes) <= 2_000
    assert [line for lines in by_bytes for line in lines] == whole[0]
    keys = [json.loads(line)["custom_id"] for line in whole[0]]
    assert keys == prompts[col.KEY].to_list()


def kill_after(server: BatchServer, store: Store, batches: int) -> None:
    """A run that is killed when it waits for this many batches."""
    room = str(Path(__file__).parents[4])
    victim = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.tasks.llm.batches.batch_run_to_kill",
            server.base_url,
            store.root,
        ],
        env={**os.environ, "PYTHONPATH": room},
    )
    noted = 0
    while noted < batches:
        time.sleep(0.02)
        folders = batch_folders(Ledger(store.local, Role.CHAT))
        noted = sum(folder.record().batch_id is not None for folder in folders)
        assert victim.poll() is None
    victim.send_signal(signal.SIGKILL)
    victim.wait()


def test_a_killed_run_is_resumed_by_the_ids_of_its_batches(store: Store) -> None:
    with batch_server(BatchPlan(looks=2)) as server:
        kill_after(server, store, 3)
        assert open_batches(store) == 3
        found = ask(server.base_url, store, texts=[*TEXTS, "a new one"])
        assert len(server.batches) == 4
        assert set(server.paid.values()) == {1}
        assert len(server.paid) == 10
    assert texts_of(found) > EXPECTED
    assert open_batches(store) == 0
    assert verify(Ledger(store.local, Role.CHAT)).twice == 0


def test_a_batch_created_just_before_a_kill_is_found_again(store: Store) -> None:
    with batch_server(BatchPlan(looks=2)) as server:
        kill_after(server, store, 3)
        folder = batch_folders(Ledger(store.local, Role.CHAT))[0]
        folder.note(folder.record().model_copy(update={"batch_id": None}))
        ask(server.base_url, store)
        assert len(server.batches) == 3
        assert set(server.paid.values()) == {1}


def test_an_interrupt_ends_the_wait_and_leaves_the_batches_to_the_next_run(store: Store) -> None:
    with batch_server(BatchPlan(looks=10**6)) as server:
        stop_asking()
        with pytest.raises(AskingStoppedError):
            ask(server.base_url, store)
    assert open_batches(store) == 3


def test_what_waits_in_a_batch_is_paid_again_by_no_run_that_would_not_collect_it(
    store: Store, vllm: BatchConfig
) -> None:
    with batch_server(BatchPlan(looks=2)) as server, faulty_endpoint() as online:
        kill_after(server, store, 3)
        folders = batch_folders(Ledger(store.local, Role.CHAT))
        for batch in (None, QUICK, vllm):
            with pytest.raises(
                WaitingInBatchError, match=rf"9 .*--batch api with .*{server.base_url}"
            ):
                ask(online.base_url, store, batch)
        assert online.requests_to(CHAT) == 0
        ask(online.base_url, store, None, ["a new one"])  # Nobody else has asked that.
        folders[0].drop()
        with pytest.raises(WaitingInBatchError, match=rf"5 .*, delete {folders[1].path}"):
            ask(online.base_url, store, None)
        ask(server.base_url, store)  # What was dropped is asked again.
        assert len(server.batches) == 4


def test_a_folder_that_vanishes_while_it_is_looked_at_is_passed_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(store.local, Role.CHAT)
    record = BatchRecord(model="m", base_url="u", input_file_id="f")
    gone, there = (new_folder(ledger, [b'{"custom_id": "k"}\n'], record) for _ in range(2))
    prompts = pl.DataFrame({col.KEY: ["k"], "prompt": ["tea"]})
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda path: None)
        listed = batch_folders(ledger)
        gone.drop()
    assert gone.requests.exists()
    monkeypatch.setattr("tasks.llm.batches.batch_folders.batch_folders", lambda _: listed)
    with left_by_others(ledger, prompts, "u") as taken:
        assert [folder.path for folder in taken] == [there.path]


def test_a_redirect_does_not_send_the_prompts_to_another_server(store: Store) -> None:
    reached: list[str] = []

    other, moved = FastAPI(), FastAPI()

    @other.post("/{path:path}")
    def reach(path: str) -> None:
        reached.append(path)

    @moved.post("/{path:path}")
    def move(path: str) -> Response:
        return RedirectResponse(f"{target.base_url}/files", 307)

    with running_app(other) as target, running_app(moved) as server:
        with pytest.raises(BatchRefusedError, match="does not receive prompts") as raised:
            ask(server.base_url, store)
        assert f"redirects to {target.base_url}/files" in str(raised.value)
    assert reached == []
