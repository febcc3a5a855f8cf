"""Claims: of two runs at once, one asks a question; a dead run holds nothing."""

import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from artifacts.ledger import claims
from artifacts.ledger.answers import Answer, Role
from artifacts.ledger.claims import Claims, questions, wait_for_others
from artifacts.ledger.ledger import Ledger

ROOM = Path(__file__).parents[3]

HOLDER = """
import sys
from pathlib import Path
import polars as pl
from artifacts.ledger.answers import Answer, Role
from artifacts.ledger.claims import Claims
from artifacts.ledger.ledger import Ledger

ledger = Ledger(Path(sys.argv[1]), Role.CHAT)
keys = sys.argv[2].split()
with Claims(ledger, "m", {}) as claims:
    mine = claims.take(pl.DataFrame({"key": keys, "prompt": keys}))
    print(" ".join(mine["key"]), flush=True)
    sys.stdin.readline()
    with ledger.journal("m") as journal:
        for key in mine["key"]:
            journal.append(Answer(key, "theirs", None, "stop", 1, 1))
"""


def prompts(*keys: str) -> pl.DataFrame:
    return pl.DataFrame({"key": keys, "prompt": [f"ask {key}" for key in keys]})


def pay(ledger: Ledger, *keys: str) -> None:
    with ledger.journal("m") as journal:
        for key in keys:
            journal.append(Answer(key, "mine", None, "stop", 1, 1))


def start_holder(ledger: Ledger, keys: str) -> tuple[subprocess.Popen[bytes], list[str]]:
    command = [sys.executable, "-c", HOLDER, str(ledger.folder.parents[1]), keys]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOM)
    assert holder.stdout is not None
    return holder, holder.stdout.readline().decode().split()


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.01)
    return Ledger(tmp_path, Role.CHAT)


def test_a_run_claims_what_is_missing_and_nobody_asks(ledger: Ledger) -> None:
    pay(ledger, "a")
    with Claims(ledger, "m", {}) as first:
        assert first.take(prompts("a", "b", "c")).equals(prompts("b", "c"))
        assert first.claimed_elsewhere.is_empty()
        with Claims(ledger, "m", {}) as second:
            assert second.take(prompts("d", "c", "a", "b")).equals(prompts("d"))
            assert second.claimed_elsewhere.equals(prompts("c", "b"))
            assert second.take(prompts("e")).equals(prompts("e"))
    with Claims(ledger, "m", {}) as third:
        assert third.take(prompts("b", "e")).height == 2  # They were not answered.


def test_what_another_process_claims_is_left_to_it_until_it_has_answered(ledger: Ledger) -> None:
    holder, its = start_holder(ledger, "a b")
    assert its == ["a", "b"]
    with Claims(ledger, "m", {}) as turn:
        assert turn.take(prompts("a", "b", "c")).equals(prompts("c"))
        pay(ledger, "c")
    polls = 0

    def let_it_go_on() -> None:
        nonlocal polls
        polls += 1
        if polls == 3:
            holder.communicate(b"\n")

    wait_for_others(ledger, turn.claimed_elsewhere["key"], let_it_go_on)
    assert polls == 3
    assert ledger.missing(pl.Series(["a", "b", "c"])).is_empty()
    assert ledger.answers(pl.Series(["a"]))["text"].to_list() == ["theirs"]


def test_a_killed_process_holds_nothing(ledger: Ledger) -> None:
    holder, its = start_holder(ledger, "a b")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with Claims(ledger, "m", {}) as turn:
        assert turn.take(prompts("a", "b"))["key"].to_list() == its
        assert turn.claimed_elsewhere.is_empty()


def test_a_claim_ends_with_its_block_also_when_it_raises(ledger: Ledger) -> None:
    def break_off() -> None:
        with Claims(ledger, "m", {}) as claims:
            claims.take(prompts("a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as held:
        break_off()
    with Claims(ledger, "m", {}) as turn:  # While the traceback is still alive.
        assert turn.take(prompts("a")).height == 1
    assert held.value is not None


def test_who_waits_can_be_ended(ledger: Ledger) -> None:
    def stop() -> None:
        raise InterruptedError

    with Claims(ledger, "m", {}) as held:
        held.take(prompts("a"))
        with pytest.raises(InterruptedError):
            wait_for_others(ledger, pl.Series(["a"]), stop)


def test_what_was_asked_is_on_record(ledger: Ledger) -> None:
    with Claims(ledger, "m", {"temperature": 0.5}) as claims:
        claims.take(prompts("a"))
        assert questions(ledger).collect().is_empty()  # Not before it has ended.
    assert questions(ledger).collect().rows() == [("a", "m", '{"temperature": 0.5}', "ask a")]


def test_nothing_to_ask_leaves_no_claim(ledger: Ledger) -> None:
    pay(ledger, "a")
    with Claims(ledger, "m", {}) as turn:
        assert turn.take(prompts("a")).is_empty()
    assert list(ledger.folder.glob("*claim*.parquet")) == []
    assert list(ledger.folder.glob("questions-*")) == []
