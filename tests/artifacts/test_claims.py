"""Claims: of two runs at once, one asks a question; a dead run holds nothing."""

import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from artifacts import claims
from artifacts.answers import Answer, Role
from artifacts.claims import claim, questions, wait_for_others
from artifacts.ledger import Ledger

ROOM = Path(__file__).parents[2]

HOLDER = """
import sys
from pathlib import Path
import polars as pl
from artifacts.answers import Answer, Role
from artifacts.claims import claim
from artifacts.ledger import Ledger

ledger = Ledger(Path(sys.argv[1]), Role.CHAT)
keys = sys.argv[2].split()
with claim(ledger, pl.DataFrame({"key": keys, "prompt": keys}), "m", {}) as mine:
    print(" ".join(mine.mine["key"]), flush=True)
    sys.stdin.readline()
    with ledger.journal("m") as journal:
        for key in mine.mine["key"]:
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
    with claim(ledger, prompts("a", "b", "c"), "m", {}) as first:
        assert first.mine["key"].to_list() == ["b", "c"]
        assert first.theirs.is_empty()
        with claim(ledger, prompts("d", "c", "a", "b"), "m", {}) as second:
            assert second.mine["key"].to_list() == ["d"]
            assert second.theirs.to_list() == ["c", "b"]
    with claim(ledger, prompts("b"), "m", {}) as third:
        assert third.mine["key"].to_list() == ["b"]  # It was not answered.


def test_what_another_process_claims_is_left_to_it_until_it_has_answered(ledger: Ledger) -> None:
    holder, its = start_holder(ledger, "a b")
    assert its == ["a", "b"]
    with claim(ledger, prompts("a", "b", "c"), "m", {}) as turn:
        assert turn.mine["key"].to_list() == ["c"]
        pay(ledger, "c")
    polls = 0

    def let_it_go_on() -> None:
        nonlocal polls
        polls += 1
        if polls == 3:
            holder.communicate(b"\n")

    wait_for_others(ledger, turn.theirs, let_it_go_on)
    assert polls == 3
    assert ledger.missing(pl.Series(["a", "b", "c"])).is_empty()
    assert ledger.answers(pl.Series(["a"]))["text"].to_list() == ["theirs"]


def test_a_killed_process_holds_nothing(ledger: Ledger) -> None:
    holder, its = start_holder(ledger, "a b")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with claim(ledger, prompts("a", "b"), "m", {}) as turn:
        assert turn.mine["key"].to_list() == its
        assert turn.theirs.is_empty()


def test_a_claim_ends_with_its_block_also_when_it_raises(ledger: Ledger) -> None:
    def break_off() -> None:
        with claim(ledger, prompts("a"), "m", {}):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as held:
        break_off()
    with claim(ledger, prompts("a"), "m", {}) as turn:  # While the traceback is still alive.
        assert turn.mine.height == 1
    assert held.value is not None


def test_who_waits_can_be_ended(ledger: Ledger) -> None:
    def stop() -> None:
        raise InterruptedError

    with (
        claim(ledger, prompts("a"), "m", {}),
        pytest.raises(InterruptedError),
    ):
        wait_for_others(ledger, pl.Series(["a"]), stop)


def test_what_was_asked_is_on_record(ledger: Ledger) -> None:
    with claim(ledger, prompts("a"), "m", {"temperature": 0.5}):
        assert questions(ledger).collect().is_empty()  # Not before it has ended.
    assert questions(ledger).collect().rows() == [("a", "m", '{"temperature": 0.5}', "ask a")]


def test_nothing_to_ask_leaves_no_claim(ledger: Ledger) -> None:
    pay(ledger, "a")
    with claim(ledger, prompts("a"), "m", {}) as turn:
        assert turn.mine.is_empty()
    assert list(ledger.folder.glob("*claim*.parquet")) == []
    assert list(ledger.folder.glob("questions-*")) == []
