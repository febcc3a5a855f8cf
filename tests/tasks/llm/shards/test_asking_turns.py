"""Two runs on one store at once: nothing is lost, nothing is paid twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from artifacts.ledger import claims
from artifacts.ledger.answers import Role
from artifacts.ledger.check import verify
from artifacts.ledger.ledger import Ledger
from artifacts.store import Store
from tasks.llm.client.stop import AskingStoppedError, stop_asking
from tests.fakes import CHAT, FaultPlan, FaultyServer, faulty_endpoint
from tests.tasks.llm.asking import ask, chat_at, keys_of

pytestmark = pytest.mark.usefixtures("inline_shards")


def start(server: FaultyServer, store: Store, first: int, last: int) -> subprocess.Popen[str]:
    room = str(Path(__file__).parents[4])
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.tasks.llm.shards.one_run",
            server.base_url,
            store.root,
            str(first),
            str(last),
        ],
        env={**os.environ, "PYTHONPATH": room, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        text=True,
    )


def texts(count: int) -> list[str]:
    return [f"tea number {number}" for number in range(count)]


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.02)


def test_two_runs_at_once_ask_each_prompt_once_and_both_get_all_answers(store: Store) -> None:
    with faulty_endpoint(FaultPlan(latency_s=0.02)) as server:
        runs = [start(server, store, 0, 120), start(server, store, 60, 180)]
        outputs = [run.communicate(timeout=120)[0] for run in runs]
        assert [run.returncode for run in runs] == [0, 0]
        assert server.requests_to(CHAT) == 180
        assert [server.good_answers_for(text) for text in texts(180)] == [1] * 180
    assert sum(int(output.split()[0]) for output in outputs) == 180
    found = verify(Ledger(store.local, Role.CHAT))
    assert (found.answers, found.twice, found.trouble) == (180, 0, [])


def test_what_a_killed_run_left_is_asked_by_the_one_that_waited_for_it(store: Store) -> None:
    with faulty_endpoint(FaultPlan(latency_s=0.05)) as server:
        victim = start(server, store, 0, 100)
        while server.requests_to(CHAT) < 20:
            time.sleep(0.01)
        waiting = start(server, store, 0, 100)
        time.sleep(0.5)
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        waiting.communicate(timeout=120)
        assert waiting.returncode == 0
        paid = sum(server.good_answers_for(text) for text in texts(100))
    assert 100 <= paid <= 104
    assert verify(Ledger(store.local, Role.CHAT)).twice == 0


def test_an_interrupt_ends_the_wait_for_another_run(store: Store) -> None:
    ledger = Ledger(store.local, Role.CHAT)
    with faulty_endpoint() as server, claims.Claims(ledger, "m", {}) as held:
        endpoint = chat_at(server.base_url)
        held.take(pl.DataFrame({"key": keys_of(texts(2), endpoint), "prompt": texts(2)}))
        stop_asking()
        with pytest.raises(AskingStoppedError):
            ask(texts(2), endpoint, store)
        assert server.requests_to(CHAT) == 0
