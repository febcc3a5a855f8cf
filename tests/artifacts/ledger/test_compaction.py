"""Compaction: nothing is lost or changes its answer, whoever reads, writes or dies beside it."""

import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.ledger import compaction
from artifacts.ledger.answers import Answer, Role
from artifacts.ledger.claims import Claims, questions
from artifacts.ledger.compaction import compact
from artifacts.ledger.ledger import Ledger

ROOM = Path(__file__).parents[3]


def answer(key: str, text: str = "a text") -> Answer:
    return Answer(key, text, None, "stop", 3, 5)


def write(ledger: Ledger, *answers: Answer) -> None:
    with ledger.journal("m") as journal:
        for each in answers:
            journal.append(each)


def held(ledger: Ledger, keys: list[str]) -> dict[str, str]:
    return dict(ledger.answers(pl.Series(keys, dtype=pl.String)).select("key", "text").iter_rows())


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "root", Role.CHAT)


def test_many_parts_become_one_with_the_same_answers(ledger: Ledger) -> None:
    keys = [f"k{number}" for number in range(30)]
    for key in keys:
        write(ledger, answer(key, key))
    before = ledger.answers(pl.Series(keys)).sort("key")
    done = compact(ledger)
    assert (done.files_before, done.files_after, done.duplicates_dropped) == (30, 1, 0)
    assert ledger.answers(pl.Series(keys)).sort("key").equals(before)
    again = compact(ledger)
    assert (again.files_before, again.files_after) == (1, 1)


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4), max_size=8),
    part_bytes=st.sampled_from([100, 3_000, 5_000, 9_000, 10**9]),
)
def test_every_key_keeps_the_answer_it_had(
    parts: list[list[str]], part_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger"), Role.CHAT)
    for number, keys in enumerate(parts):
        write(ledger, *[answer(key, f"{key} of {number}") for key in keys])
    before = held(ledger, list("abcdef"))
    compact(ledger, part_bytes)
    assert held(ledger, list("abcdef")) == before
    compact(ledger, 10**9)
    assert held(ledger, list("abcdef")) == before
    assert len(ledger.parts()) <= 1


def test_what_stood_twice_stands_once(ledger: Ledger) -> None:
    for text in ("one", "two", "three"):
        write(ledger, answer("a", text), answer(text))
    assert compact(ledger).duplicates_dropped == 2
    assert held(ledger, ["a"]) == {"a": "one"}


def test_large_parts_stay_and_small_ones_beside_them_are_merged(ledger: Ledger) -> None:
    write(ledger, answer("small"))
    write(ledger, answer("large", np.random.default_rng(0).bytes(20_000).hex()))
    large = ledger.parts()[1]
    for number in range(3):
        write(ledger, answer(f"late {number}"))
    inode = large.stat().st_ino
    compact(ledger, part_bytes=30_000)
    assert large.stat().st_ino == inode
    assert len(ledger.parts()) == 3


def test_vectors_models_and_times_come_through(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, Role.EMBEDDING)
    for width in (3, 4):
        vector = np.arange(width, dtype=np.float32)
        write(ledger, Answer(f"k{width}", None, vector, "stop", 2, 0))
    with ledger.reading() as parts:
        before = parts.collect()
    compact(ledger)
    with ledger.reading() as parts:
        assert parts.collect().equals(before)
    assert before["model"].to_list() == ["m", "m"]
    assert before["answered_at"].is_sorted()


def test_parts_of_an_earlier_version_without_model_and_time_are_read(ledger: Ledger) -> None:
    write(ledger, answer("new"))
    old = pl.DataFrame([["old", "text", None, "stop", 1, 2]], orient="row", schema=list("abcdef"))
    names = ("key", "text", "vector", "finish_reason", "prompt_tokens", "completion_tokens")
    old.rename(dict(zip("abcdef", names, strict=True))).with_columns(
        pl.col("vector").cast(pl.Binary)
    ).write_parquet(ledger.folder / "part-0a1b.parquet")
    assert held(ledger, ["old", "new"]) == {"old": "text", "new": "a text"}
    compact(ledger)
    assert held(ledger, ["old", "new"]) == {"old": "text", "new": "a text"}
    assert len(ledger.parts()) == 1


def test_records_of_questions_are_merged_too(ledger: Ledger) -> None:
    for key in "abc":
        with Claims(ledger, "m", {}) as claims:
            claims.take(pl.DataFrame({"key": [key], "prompt": [key]}))
            write(ledger, answer(key))
    compact(ledger)
    assert len(list(ledger.folder.glob("questions-*"))) == 1
    assert questions(ledger).collect()["key"].to_list() == ["a", "b", "c"]


KILLED = """
import os, signal, sys
from pathlib import Path
from artifacts.ledger import compaction
from artifacts.ledger.answers import Role
from artifacts.ledger.ledger import Ledger

steps = int(sys.argv[2])
def dying(work):
    def step(*arguments, **keywords):
        global steps
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*arguments, **keywords)
    return step

Path.unlink, Path.replace = dying(Path.unlink), dying(Path.replace)
compaction.compact(Ledger(Path(sys.argv[1]), Role.CHAT))
"""


def test_killed_at_any_step_it_loses_nothing_and_the_next_one_finishes(tmp_path: Path) -> None:
    keys = ["a", "b", "c", "shared"]
    for steps in range(8):
        ledger = Ledger(tmp_path / str(steps), Role.CHAT)
        for key in keys[:3]:
            write(ledger, answer(key, key), answer("shared", key))
        root = str(ledger.folder.parents[1])
        victim = subprocess.run(
            [sys.executable, "-c", KILLED, root, str(steps)], cwd=ROOM, check=False
        )
        expected = {"a": "a", "b": "b", "c": "c", "shared": "a"}
        assert held(ledger, keys) == expected
        compact(ledger)
        assert held(ledger, keys) == expected
        assert len(ledger.parts()) == 1
        left = {path.name for path in ledger.folder.iterdir() if path.suffix != ".lock"}
        assert left == {ledger.parts()[0].name}
        if victim.returncode == 0:
            break
        assert victim.returncode == -signal.SIGKILL
    else:
        pytest.fail("it was killed at every step")


def write_many(root: Path, gate: object) -> None:
    mine = Ledger(root, Role.CHAT)
    gate.wait()  # pyright: ignore[reportAttributeAccessIssue]
    for number in range(60):
        write(mine, answer(f"k{number}", f"text {number}"))
        assert mine.missing(pl.Series([f"k{n}" for n in range(number + 1)])).is_empty()


def test_a_writer_and_reader_beside_it_never_misses_an_answer(ledger: Ledger) -> None:
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(2)
    writer = context.Process(target=write_many, args=(ledger.folder.parents[1], gate))
    writer.start()
    gate.wait()
    rounds = 0
    while writer.is_alive():
        compact(ledger, part_bytes=8_000)
        rounds += 1
    writer.join()
    assert writer.exitcode == 0
    assert rounds > 1
    keys = [f"k{number}" for number in range(60)]
    assert held(ledger, keys) == {f"k{n}": f"text {n}" for n in range(60)}
    compact(ledger)
    assert len(ledger.parts()) == 1


def test_a_group_is_written_in_blocks(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "ROW_GROUP", 4)
    for number in range(5):
        write(ledger, *[answer(f"{number}-{n}") for n in range(3)])
    compact(ledger)
    (part,) = ledger.parts()
    keys = [f"{number}-{n}" for number in range(5) for n in range(3)]
    assert pl.read_parquet(part, glob=False)["key"].to_list() == keys
