"""The ledger: what was paid for survives kills, races and torn writes, bit for bit."""

import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from artifacts.ledger import ledger as ledger_module
from artifacts.ledger.answers import (
    ANSWER_SCHEMA,
    Answer,
    Role,
    answer_key,
    answer_keys,
    journal_line,
    parse_journal,
    part_of,
    vectors_of,
)
from artifacts.ledger.journal import JournalDamagedError
from artifacts.ledger.ledger import Ledger

ROOM = Path(__file__).parents[3]

WRITER = """
import sys
from pathlib import Path
from artifacts.ledger.answers import Answer, Role
from artifacts.ledger.ledger import Ledger

root, name, flushed, waiting = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def answer(number):
    return Answer(f"{name}{number}", f"text {number} of {name}", None, "stop", 3, 5)

with Ledger(root, Role.CHAT).journal() as journal:
    for number in range(flushed):
        journal.append(answer(number))
    journal.flush()
    journal._flushed_at = float("inf")  # No flush by the clock from here on.
    for number in range(flushed, flushed + waiting):
        journal.append(answer(number))
    print("ready", flush=True)
    sys.stdin.readline()
"""


def answer(key: str, text: str = "a text") -> Answer:
    return Answer(key, text, None, "stop", 3, 5)


def keys(*names: str) -> pl.Series:
    return pl.Series("key", names, dtype=pl.String)


def held(ledger: Ledger) -> list[Path]:
    return sorted(path for path in ledger.folder.iterdir() if path.suffix != ".lock")


def start_writer(root: Path, name: str, flushed: int, waiting: int = 0) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(root), name, str(flushed), str(waiting)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOM)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    return writer


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "root [1]", Role.CHAT)  # A name that a glob would misread.


def test_an_answer_is_held_when_its_journal_ends(ledger: Ledger) -> None:
    with ledger.journal() as journal:
        journal.append(answer("a", "né\n\r\u2028\x00 'quoted'"))
    assert ledger.missing(keys("b", "a", "b", "c")).to_list() == ["b", "c"]
    assert ledger.answers(keys("a", "b", "a")).rows() == [
        ("a", "né\n\r\u2028\x00 'quoted'", None, "stop", 3, 5)
    ]
    assert [path.suffix for path in held(ledger)] == [".parquet"]


def test_an_empty_ledger_misses_everything_and_answers_nothing(ledger: Ledger) -> None:
    assert ledger.missing(keys("b", "a", "b")).to_list() == ["b", "a"]
    assert ledger.answers(keys("a")).schema == ANSWER_SCHEMA
    assert ledger.recover() == 0
    with ledger.journal():
        pass
    assert held(ledger) == []


def test_roles_have_ledgers_of_their_own(ledger: Ledger, tmp_path: Path) -> None:
    with ledger.journal() as journal:
        journal.append(answer("a"))
    other = Ledger(tmp_path / "root [1]", Role.EMBEDDING)
    assert other.missing(keys("a")).to_list() == ["a"]


def test_answers_are_kept_when_the_block_raises(ledger: Ledger) -> None:
    def break_off() -> None:
        with ledger.journal() as journal:
            journal.append(answer("a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert ledger.missing(keys("a")).is_empty()


def test_a_killed_writer_loses_nothing_that_it_has_appended(ledger: Ledger) -> None:
    writer = start_writer(ledger.folder.parents[1], "k", flushed=40, waiting=5)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    journal = next(ledger.folder.glob("journal-*"))
    torn = journal_line(answer("torn"))[:-9]
    with journal.open("ab") as file:
        file.write(torn)
    assert ledger.recover() == 45
    paid = keys(*[f"k{number}" for number in range(45)])
    assert ledger.missing(paid).is_empty()
    assert ledger.missing(keys("torn")).to_list() == ["torn"]
    assert ledger.answers(keys("k7"))["text"].to_list() == ["text 7 of k"]
    assert [path.suffix for path in held(ledger)] == [".parquet"]
    assert ledger.recover() == 0


def test_the_journal_of_a_live_process_is_left_alone(ledger: Ledger) -> None:
    writer = start_writer(ledger.folder.parents[1], "w", flushed=3)
    assert ledger.recover() == 0
    assert [path.name[:8] for path in held(ledger)] == ["journal-"]
    writer.communicate(b"\n")
    assert writer.returncode == 0
    assert ledger.missing(keys("w0", "w1", "w2")).is_empty()
    assert len(held(ledger)) == 1


def test_a_journal_of_this_very_process_is_left_alone_too(ledger: Ledger) -> None:
    with ledger.journal() as journal:
        journal.append(answer("a"))
        journal.flush()
        assert ledger.recover() == 0
        journal.append(answer("b"))
    assert ledger.missing(keys("a", "b")).is_empty()


def write_and_recover(root: Path, name: str, gate: object) -> None:
    mine = Ledger(root, Role.CHAT)
    gate.wait()  # pyright: ignore[reportAttributeAccessIssue]
    for turn in range(6):
        mine.recover()
        with mine.journal() as journal:
            for number in range(20):
                journal.append(answer(f"{name}-{turn}-{number}", name))
            journal.append(answer(f"shared-{turn}", name))


def test_processes_that_write_and_recover_at_once_lose_nothing(ledger: Ledger) -> None:
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(2)
    root = ledger.folder.parents[1]
    writers = [context.Process(target=write_and_recover, args=(root, name, gate)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    own = [f"{name}-{turn}-{number}" for name in "ab" for turn in range(6) for number in range(20)]
    asked = keys(*own, *[f"shared-{turn}" for turn in range(6)])
    assert ledger.missing(asked).is_empty()
    found = ledger.answers(asked)
    assert found["key"].sort().to_list() == sorted(asked)
    assert found.filter(pl.col("key").str.starts_with("a-"))["text"].unique().to_list() == ["a"]


def test_sealing_twice_gives_one_part(ledger: Ledger) -> None:
    with ledger.journal() as journal:
        journal.append(answer("a"))
        content = journal_line(answer("a"))
        path = journal.path
    # As if the process had died between making the part and removing the journal.
    path.write_bytes(content)
    assert ledger.recover() == 1
    assert len(held(ledger)) == 1
    assert ledger.answers(keys("a")).height == 1


@pytest.mark.parametrize("read_bytes", [1, 2_500, 64 << 20])
def test_a_key_of_two_parts_has_one_answer_the_same_for_all_readers(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, read_bytes: int
) -> None:
    monkeypatch.setattr(ledger_module, "READ_BYTES", read_bytes)
    for text in ("one", "two", "three"):
        with ledger.journal() as journal:
            journal.append(answer("a", text))
            journal.append(answer(text))
    first = pl.read_parquet(held(ledger)[0], glob=False).filter(pl.col("key") == "a")["text"].item()
    questions = [keys("a"), keys("a", "one"), keys("three", "two", "a", "one")]
    for question in questions * 3:
        found = ledger.answers(question)
        assert found.filter(pl.col("key") == "a")["text"].to_list() == [first]
        assert found.height == question.len()


@pytest.mark.parametrize("parts_at_a_time", [1, 2, 3, 7])
def test_no_more_of_the_ledger_is_read_at_a_time_than_fits(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, parts_at_a_time: int
) -> None:
    names = [f"k{number}" for number in range(7)]
    for name in names:
        with ledger.journal() as journal:
            journal.append(answer(name))
    sizes = [path.stat().st_size for path in ledger.parts()]
    fits = parts_at_a_time * max(sizes)
    monkeypatch.setattr(ledger_module, "READ_BYTES", fits)
    read: list[list[Path]] = []
    scan = ledger_module.scan_parts
    monkeypatch.setattr(
        ledger_module, "scan_parts", lambda paths: (read.append(paths), scan(paths))[1]
    )
    found = ledger.answers(keys(*names[1:], "never asked"))
    # The first is the lazy table of all parts, of which nothing is collected.
    groups = read[1:]
    assert [path for group in groups for path in group] == ledger.parts()
    assert all(sum(path.stat().st_size for path in group) <= fits for group in groups)
    assert max(len(group) for group in groups) >= parts_at_a_time
    assert found["key"].to_list() == names[1:]


def test_a_whole_line_that_is_no_answer_is_named_not_dropped(ledger: Ledger) -> None:
    path = ledger.folder / "journal-0.jsonl"
    damaged = journal_line(answer("a")) + b"\x00\x00\n" + journal_line(answer("b"))
    path.write_bytes(damaged)
    with pytest.raises(JournalDamagedError, match=r"journal-0\.jsonl.*verify --repair"):
        ledger.recover()
    assert path.read_bytes() == damaged
    path.write_bytes(damaged.replace(b"\x00\x00\n", b""))
    assert ledger.recover() == 2


def test_half_an_emoji_does_not_stop_a_shard(ledger: Ledger) -> None:
    with ledger.journal() as journal:
        journal.append(answer("a", "cut \ud83d"))
        journal.append(answer("b", "in two \ud83d\ude00"))
    found = ledger.answers(keys("a", "b")).sort("key")["text"].to_list()
    assert found == ["cut \ufffd", "in two 😀"]


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(width=32), min_size=5, max_size=5), min_size=1, max_size=4))
def test_vectors_come_back_bit_for_bit(rows: list[list[float]]) -> None:
    vectors = np.array(rows, dtype=np.float32)
    lines = [
        journal_line(Answer(str(row), None, vector, "stop", 1, 0))
        for row, vector in enumerate(vectors)
    ]
    read = vectors_of(parse_journal(b"".join(lines)))
    assert read.dtype == np.float32
    assert read.shape == vectors.shape
    assert read.tobytes() == vectors.tobytes()


def test_a_vector_of_another_layout_is_stored_as_its_values() -> None:
    vector = np.arange(12, dtype=">f8")[::3]
    (read,) = vectors_of(parse_journal(journal_line(Answer("a", None, vector, "stop", 1, 0))))
    assert read.tolist() == [0.0, 3.0, 6.0, 9.0]


ANSWERS = st.lists(
    st.builds(
        Answer,
        key=st.sampled_from(["a", "b", "é", "\n"]),
        text=st.none() | st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
        vector=st.none() | st.just(np.array([1.5, -2.0], np.float32)),
        finish_reason=st.sampled_from(["stop", "length"]),
        prompt_tokens=st.integers(0, 2**40),
        completion_tokens=st.integers(0, 9),
    ),
    max_size=6,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(answers=ANSWERS, data=st.data())
def test_a_journal_cut_at_any_byte_gives_its_whole_lines(
    answers: list[Answer], data: st.DataObject, tmp_path: Path
) -> None:
    lines = [journal_line(each) for each in answers]
    content = b"".join(lines)
    stop = data.draw(st.integers(0, len(content)))
    ends = np.cumsum([len(line) for line in lines])
    whole = answers[: int((ends <= stop).sum())]
    ledger = Ledger(tmp_path, Role.CHAT)
    for path in ledger.folder.iterdir():
        path.unlink()
    (ledger.folder / "journal-x.jsonl").write_bytes(content[:stop])
    assert ledger.recover() == len(whole)
    asked = keys(*[each.key for each in answers])
    for each in whole:
        found = ledger.answers(keys(each.key))
        first = next(other for other in whole if other.key == each.key)
        vector = None if first.vector is None else first.vector.tobytes()
        expected = (first.text, vector, first.prompt_tokens)
        assert found.select("text", "vector", "prompt_tokens").rows() == [expected]
    assert set(ledger.missing(asked)) == set(asked) - {each.key for each in whole}


def test_a_key_depends_on_model_parameters_and_prompt_alone() -> None:
    key = answer_key("m", {"temperature": 0.5, "seed": 1}, "prompt")
    assert key == answer_key("m", {"seed": 1, "temperature": 0.5}, "prompt")
    others = [
        answer_key("n", {"temperature": 0.5, "seed": 1}, "prompt"),
        answer_key("m", {"temperature": 0.6, "seed": 1}, "prompt"),
        answer_key("m", {"temperature": 0.5, "seed": 1}, "prompt "),
    ]
    assert len({key, *others}) == 4


def test_a_journal_can_be_recovered_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Ledger(Path("store"), Role.CHAT).journal() as journal:
        journal.append(answer("a"))
    assert Ledger(Path.cwd() / "store", Role.CHAT).missing(keys("a")).is_empty()


def test_keys_made_together_are_those_made_one_by_one() -> None:
    parameters: dict[str, JsonValue] = {"temperature": 0.5, "größe": [1, None]}
    prompts: list[JsonValue] = ["a prompt", 'quotes " and ümlauts', {"b": 1, "a": ["x"]}, ""]

    together = answer_keys("m", parameters, prompts)

    assert together == [answer_key("m", parameters, prompt) for prompt in prompts]


def test_a_journal_sealed_from_memory_holds_what_its_lines_say() -> None:
    vector = np.array([1.5, -2.0], dtype=np.float32)
    answers = [
        (Answer("a", "half an emoji \ud83d", None, "stop", 3, 4), 1_700_000_000_123),
        (Answer("b", None, vector, "length", 5, 0), 1_700_000_000_456),
        (Answer("c", "", None, "stop", 1, 0), 1_700_000_000_789),
    ]

    lines = b"".join(journal_line(answer, "m", at) for answer, at in answers)

    assert part_of(answers, "m").equals(parse_journal(lines))


def test_the_width_is_that_of_the_vectors_asked_for(ledger: Ledger) -> None:
    for key, width in (("other", 7), ("mine", 5)):
        with ledger.journal() as journal:
            journal.append(Answer(key, None, np.ones(width, np.float32), "stop", 1, 0))
    assert ledger.width(pl.Series(["unheard of", "mine"])) == 5
    assert ledger.width(pl.Series(["unheard of"])) is None
    assert ledger.width(pl.Series([], dtype=pl.String)) is None
