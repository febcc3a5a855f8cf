"""Verify names what is damaged, repair keeps what is not; stats and export say what there is."""

import errno
import fcntl
import json
import os
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from artifacts.files.ownership import locked
from artifacts.ledger.answers import Answer, Role, answer_key, journal_line
from artifacts.ledger.check import STALE_SECONDS, verify
from artifacts.ledger.claims import Claims
from artifacts.ledger.export import UnknownFormError, export, stats_of
from artifacts.ledger.journal import JournalDamagedError
from artifacts.ledger.ledger import Ledger, LedgerDamagedError
from artifacts.ledger.repair import repair
from flows.cli.command_table import app
from flows.cli.commands.upkeep.ledger_command import compact_command

PARAMETERS = {"temperature": 0.5}


def prompt_of(number: int) -> str:
    return json.dumps({"messages": [{"role": "user", "content": f"ask {number}"}]})


def key_of(number: int) -> str:
    return answer_key("m", dict(PARAMETERS), json.loads(prompt_of(number)))


def fill(ledger: Ledger, numbers: range, ask: bool = True) -> list[str]:
    keys = [key_of(number) for number in numbers]
    asked = pl.DataFrame({"key": keys, "prompt": [prompt_of(number) for number in numbers]})
    with Claims(ledger, "m", dict(PARAMETERS)) as claims, ledger.journal("m") as journal:
        claims.take(asked if ask else asked.clear())
        for number, key in zip(numbers, keys, strict=True):
            journal.append(Answer(key, f"text {number} " * 9, None, "stop", 3, 5))
    return keys


def test_a_ledger_on_a_read_only_disk_is_verified_and_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path, Role.CHAT)
    fill(ledger, range(3))
    opened = Path.open

    def read_only(path: Path, mode: str = "r", *rest: object) -> object:
        if set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, mode, *rest)  # pyright: ignore[reportArgumentType, reportCallIssue]

    monkeypatch.setattr(Path, "open", read_only)
    found = verify(ledger)
    assert (found.answers, found.trouble) == (3, [])
    # The message about an error in a block does not name the disk.
    with pytest.raises(ValueError, match="other") as raised, locked(tmp_path / "l", fcntl.LOCK_SH):
        raise ValueError("other")
    assert raised.value.__context__ is None
    with pytest.raises(OSError, match="Read-only"), Claims(ledger, "m", {}) as claims:
        claims.take(pl.DataFrame({"key": [key_of(9)], "prompt": [prompt_of(9)]}))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "store", Role.CHAT)


def test_a_sound_ledger_is_called_sound(ledger: Ledger) -> None:
    fill(ledger, range(5))
    found = verify(ledger)
    assert (found.answers, found.questions, found.trouble, found.traces) == (5, 5, [], [])
    assert repair(ledger) == []


def flip(path: Path, where: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("where", [0.02, 0.1, 0.2, 0.35, 0.97, 0.999])
def test_a_flipped_bit_anywhere_is_found_and_other_parts_are_kept(
    ledger: Ledger, where: float
) -> None:
    lost, kept = fill(ledger, range(200)), fill(ledger, range(200, 203))
    flip(ledger.parts()[0], where)
    found = verify(ledger)
    assert len(found.trouble) == 1
    assert str(ledger.parts()[0]) in found.trouble[0]
    assert "--repair" in found.trouble[0]
    done = repair(ledger)
    assert "set-aside" in done[0]
    assert verify(ledger).trouble == []
    assert ledger.missing(pl.Series(kept)).is_empty()
    still = set(lost) - set(ledger.missing(pl.Series(lost)))
    texts = ledger.answers(pl.Series(lost))
    assert set(texts["key"]) == still
    assert all(text.startswith("text ") for text in texts["text"])


def test_a_part_cut_short_is_found(ledger: Ledger) -> None:
    fill(ledger, range(9))
    part = ledger.parts()[0]
    part.write_bytes(part.read_bytes()[:-50])
    assert len(verify(ledger).trouble) == 1
    repair(ledger)
    assert ledger.parts() == []
    assert (ledger.folder / "set-aside" / part.name).exists()


@pytest.mark.parametrize(
    "vector", [np.zeros(3), np.array([1, np.nan, 2]), np.array([1, np.inf, 2])]
)
def test_a_vector_that_is_none_is_found_and_the_others_are_kept(
    tmp_path: Path, vector: np.ndarray
) -> None:
    ledger = Ledger(tmp_path, Role.EMBEDDING)
    good, bad = key_of(1), key_of(2)
    with ledger.journal("m") as journal:
        journal.append(Answer(good, None, np.ones(3, np.float32), "stop", 1, 0))
        journal.append(Answer(bad, None, vector, "stop", 1, 0))
    assert "1 rows are not answers" in verify(ledger).trouble[0]
    repair(ledger)
    assert ledger.missing(pl.Series([good, bad])).to_list() == [bad]
    assert verify(ledger).trouble == []


def test_an_answer_under_a_wrong_key_is_found_where_its_question_is_known(ledger: Ledger) -> None:
    wrong = pl.DataFrame({"key": [key_of(1)], "prompt": [prompt_of(2)]})
    with Claims(ledger, "m", dict(PARAMETERS)) as claims:
        claims.take(wrong)
        fill(ledger, range(1, 2), ask=False)
    (trouble,) = verify(ledger).trouble
    assert "under a wrong key" in trouble


def test_a_killed_runs_traces_are_no_trouble_and_repair_clears_them(ledger: Ledger) -> None:
    fill(ledger, range(2))
    line = journal_line(Answer(key_of(7), "kept", None, "stop", 1, 1))
    (ledger.folder / "journal-7.jsonl").write_bytes(line + line[:-4])
    for name in ("part-1.tmp", ".journal-2.jsonl.new", ".claim-3.parquet.tmp"):
        stale = ledger.folder / name
        stale.touch()
        os.utime(stale, (0, time.time() - 2 * STALE_SECONDS))
    young = ledger.folder / "part-9.tmp"
    young.touch()
    found = verify(ledger)
    assert found.trouble == []
    assert len(found.traces) == 4
    assert "1 answers and a torn line" in found.traces[0]
    repair(ledger)
    assert verify(ledger).traces == []
    assert young.exists()
    assert ledger.answers(pl.Series([key_of(7)]))["text"].to_list() == ["kept"]


def test_a_damaged_line_of_a_journal_is_set_aside_and_the_others_are_kept(ledger: Ledger) -> None:
    good = [journal_line(Answer(key_of(n), "kept", None, "stop", 1, 1)) for n in range(2)]
    (ledger.folder / "journal-7.jsonl").write_bytes(good[0] + b"\x00\x00\n" + good[1])
    assert "--repair" in verify(ledger).trouble[0]
    repair(ledger)
    assert ledger.missing(pl.Series([key_of(0), key_of(1)])).is_empty()
    assert b"\x00\x00\n" in (ledger.folder / "set-aside" / "journal-7.jsonl").read_bytes()


def test_a_vector_of_a_journal_that_lost_a_letter_is_set_aside_and_the_others_are_kept(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path, Role.EMBEDDING)
    keys = [key_of(number) for number in range(2)]
    vector = np.ones(4, np.float32)
    good, bad = (journal_line(Answer(key, None, vector, "stop", 1, 0)) for key in keys)
    for damage in (b"!", b"", "é".encode()):
        bad = bad.replace(b'"vector":"A', b'"vector":"' + damage)
        (ledger.folder / "journal-7.jsonl").write_bytes(good + bad)
        with pytest.raises(JournalDamagedError, match="--repair"):
            ledger.recover()
        assert "--repair" in verify(ledger).trouble[0]
        repair(ledger)
        assert ledger.missing(pl.Series(keys)).to_list() == [keys[1]]


@pytest.mark.parametrize("kept", [0, 20, -50])
def test_a_run_that_meets_a_part_cut_short_names_the_way_out(ledger: Ledger, kept: int) -> None:
    keys = pl.Series(fill(ledger, range(200)))
    part = ledger.parts()[0]
    part.write_bytes(part.read_bytes()[:kept])
    for read in (ledger.missing, ledger.answers):
        with pytest.raises(LedgerDamagedError, match=r"cannot be read.*--repair"):
            read(keys)
    repair(ledger)
    assert ledger.missing(keys).len() == 200


@pytest.mark.parametrize("kept", [20, -50])
def test_a_record_of_questions_cut_short_is_named_and_set_aside(
    ledger: Ledger, tmp_path: Path, kept: int
) -> None:
    keys = fill(ledger, range(200))
    fill(ledger, range(200, 210))
    record = min(ledger.folder.glob("questions-*.parquet"))
    record.write_bytes(record.read_bytes()[:kept])
    with pytest.raises(LedgerDamagedError, match="--repair"):
        compact_command(str(tmp_path / "store"))
    (trouble,) = verify(ledger).trouble
    assert str(record) in trouble
    repair(ledger)
    assert (ledger.folder / "set-aside" / record.name).exists()
    assert verify(ledger).trouble == []
    assert ledger.missing(pl.Series(keys)).is_empty()
    assert export(ledger, tmp_path / "out.jsonl") == 210


def test_the_journal_of_a_living_writer_is_left_alone(ledger: Ledger) -> None:
    with ledger.journal("m") as journal:
        journal.append(Answer(key_of(1), "a", None, "stop", 1, 1))
        assert verify(ledger).traces == []
        assert repair(ledger) == []
        journal.append(Answer(key_of(2), "b", None, "stop", 1, 1))
    assert verify(ledger).answers == 2


def test_a_key_answered_twice_is_counted_and_repaired(ledger: Ledger) -> None:
    fill(ledger, range(3))
    fill(ledger, range(2), ask=False)
    found = verify(ledger)
    assert (found.twice, found.trouble) == (2, [])
    repair(ledger)
    assert verify(ledger).twice == 0


def test_stats_count_by_model_with_first_and_last(ledger: Ledger) -> None:
    fill(ledger, range(3))
    with ledger.journal("other") as journal:
        journal.append(Answer(key_of(9), "x", None, "length", 10, 20))
    found = stats_of(ledger)
    columns = ["model", "answers", "cut", "prompt_tokens", "completion_tokens"]
    assert found.models.select(columns).rows() == [("m", 3, 0, 9, 15), ("other", 1, 1, 10, 20)]
    assert (found.parts, found.questions, found.journals) == (2, 3, 0)
    assert found.bytes > 0
    assert abs(found.models["first"][0].timestamp() - time.time()) < 600


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_an_export_holds_every_answer_once_with_its_question(
    ledger: Ledger, tmp_path: Path, form: str
) -> None:
    fill(ledger, range(3))
    fill(ledger, range(5), ask=False)
    fill(ledger, range(2), ask=False)
    target = tmp_path / f"out.{form}"
    assert export(ledger, target) == 5
    read = pl.read_parquet if form == "parquet" else pl.read_ndjson
    rows = read(target).sort("text")
    assert rows["key"].to_list() == [key_of(number) for number in range(5)]
    assert rows["prompt"].to_list() == [prompt_of(0), prompt_of(1), prompt_of(2), None, None]
    assert rows["model"].to_list() == ["m"] * 5


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_exported_vectors_are_lists_of_numbers_whatever_their_width(
    tmp_path: Path, form: str
) -> None:
    ledger = Ledger(tmp_path / "store", Role.EMBEDDING)
    with ledger.journal("m") as journal:
        for width in (2, 3):
            vector = np.arange(1, width + 1, dtype=np.float32)
            journal.append(Answer(key_of(width), None, vector, "stop", 1, 0))
    target = tmp_path / f"out.{form}"
    export(ledger, target)
    read = pl.read_parquet if form == "parquet" else pl.read_ndjson
    assert read(target)["vector"].to_list() == [[1, 2], [1, 2, 3]]


def test_an_empty_ledger_exports_an_empty_table(ledger: Ledger, tmp_path: Path) -> None:
    assert export(ledger, tmp_path / "out.parquet") == 0
    assert pl.read_parquet(tmp_path / "out.parquet").columns[0] == "key"


def test_an_unknown_form_is_refused_with_the_known_ones(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(UnknownFormError, match=r"\.parquet or \.jsonl"):
        export(ledger, tmp_path / "out.csv")


def test_the_command_line_verifies_with_an_exit_code_and_repairs(
    ledger: Ledger, tmp_path: Path
) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        store = ["--store", str(tmp_path / "store")]
        result = CliRunner().invoke(app, ["ledger", *arguments, *store])
        return result.exit_code, result.output

    fill(ledger, range(3))
    fill(ledger, range(3, 5))
    assert call("verify")[0] == 0
    code, text = call("stats")
    assert code == 0
    assert "2 parts" in text
    code, text = call("compact")
    assert "4 files became 2" in text
    assert call("export", "chat", str(tmp_path / "out.jsonl"))[0] == 0
    ledger.parts()[0].write_bytes(b"PAR1 and then nothing")
    code, text = call("verify")
    assert code == 1
    assert "--repair" in text
    assert call("verify", "--repair")[0] == 0
    assert call("verify")[0] == 0


def test_a_store_without_a_ledger_is_not_given_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["ledger", "stats", "--store", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert not (tmp_path / "nowhere").exists()


def test_a_full_disk_of_the_target_is_no_damage_of_the_ledger(ledger: Ledger) -> None:
    fill(ledger, range(2))
    with pytest.raises(pl.exceptions.ComputeError, match="No space left"), ledger.reading():
        raise pl.exceptions.ComputeError("No space left on device (os error 28)")
