"""What an operator reads of releases and the machine: `status`, `releases`, `compare`."""

import errno
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from artifacts.bundles import REFRESHED, parts_of
from artifacts.manifest import MANIFEST, SCHEMA_VERSIONS, ArtifactRef, Kind
from artifacts.store import Store
from flows.cli.command_table import app
from flows.cli.commands.upkeep import status_command
from flows.cli.diagnosis.store_checks import FULL
from flows.cli.output import terminal
from flows.server.machine import Machine, MachineProcess
from tasks.alerts.outbox import Alert, put
from tasks.promoting.release_history import Decision, record_decision
from tasks.promoting.release_history import history as decided
from tests.tasks.serving.small_release import small_release

WIDE = {"COLUMNS": "220"}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal reads COLUMNS once, when it is imported: other tests may have been first."""
    monkeypatch.setattr(terminal.out, "_width", 250)


def shown(*arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(app, list(arguments), env=WIDE)
    return ended.exit_code, ended.output + (str(ended.exception) if ended.exception else "")


@pytest.fixture
def two(store: Store) -> tuple[str, str]:
    refs = [small_release(store, seed=seed) for seed in (3, 4)]
    for ref in refs:
        record_decision(store, Decision.PROMOTED, "by hand", lambda ref=ref: (ref, {}))
    return refs[0].fingerprint, refs[1].fingerprint


def test_an_empty_store_has_a_status_that_says_what_to_do(store: Store) -> None:
    status, text = shown("status", "--store", store.root)
    assert status == 0
    assert "nothing yet; `llm4cdsr run` makes the first" in text
    assert "not started; `llm4cdsr up` starts it" in text


@pytest.mark.parametrize("command", [("status",), ("doctor",), ("releases",), ("down",)])
def test_what_only_reads_writes_nothing(store: Store, command: tuple[str, ...]) -> None:
    """So it also works on a disk that is read-only after a fault."""
    before = sorted(store.local.rglob("*"))
    _, text = shown(*command, "--store", store.root)
    assert "Failed" not in text
    assert sorted(store.local.rglob("*")) == before


@pytest.mark.parametrize(
    ("fault", "free", "told"),
    [
        (OSError(errno.EROFS, "Read-only file system"), FULL, "CANNOT BE WRITTEN: Read-only"),
        (None, FULL - 1, "FULL: 104.9 MB free"),
    ],
)
def test_a_disk_that_runs_cannot_write_to_is_named_and_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: OSError | None, free: int, told: str
) -> None:
    monkeypatch.setattr(status_command, "write_fault", lambda _: fault)
    monkeypatch.setattr(status_command, "free_bytes", lambda _: free)
    status, text = shown("status", "--store", store.root)
    assert status == 1
    assert told in text


def test_status_names_what_is_served_and_a_part_of_the_machine_that_is_down(
    store: Store, two: tuple[str, str]
) -> None:
    machine = Machine(store)
    machine.folder.mkdir(parents=True)
    dead = MachineProcess(pid=2**22 + 1, started=1, log="x", port=4299, dumps="/dumps", closed=True)
    (machine.folder / "worker.json").write_text(dead.model_dump_json())
    status, text = shown("status", "--store", store.root)
    assert status == 1
    assert two[1] in text
    assert "server DOWN, worker DOWN" in text
    assert "/dumps" in text


@pytest.mark.parametrize("part", ["release", "model", "dataset"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_served_release_with_a_part_that_is_gone_or_cut_fails(
    store: Store, two: tuple[str, str], part: str, damage: str
) -> None:
    served = decided(store)[-1].release
    ref = served if part == "release" else parts_of(store, served)[part]
    files = sorted((store.local / ref.kind / ref.fingerprint).rglob("*.*"))
    broken = next(path for path in files if part == "release" or path.name != MANIFEST)
    if damage == "gone":
        broken.unlink()
    else:
        broken.write_bytes(broken.read_bytes()[:-1])
    status, text = shown("status", "--store", store.root)
    assert status == 1
    assert f"{served.fingerprint}, DAMAGED: " in text
    assert f"{ref}" in text
    assert "last decision" in text


def test_a_served_release_of_an_earlier_version_is_told(
    store: Store, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = SCHEMA_VERSIONS[Kind.MODEL]
    monkeypatch.setitem(SCHEMA_VERSIONS, Kind.MODEL, now + 1)
    status, text = shown("status", "--store", store.root)
    assert status == 0
    assert f"of an earlier version (schema of model {now}, now {now + 1})" in text
    assert "`llm4cdsr retrain` makes it" in text
    assert "of an earlier version" in shown("doctor", "--store", store.root)[1]


def test_a_damaged_decision_or_refresh_is_a_row_and_fails(
    store: Store, two: tuple[str, str]
) -> None:
    store.point(REFRESHED, ArtifactRef(kind=Kind.REFRESH, fingerprint="gone"))
    status, text = shown("status", "--store", store.root)
    assert status == 1
    assert "DAMAGED: refresh/gone is not in" in text
    (store.local / "operation" / "decisions" / "00000002.json").write_text("garbage")
    status, text = shown("status", "--store", store.root)
    assert status == 1
    assert "UNKNOWN: " in text
    assert "GB free" in text


def test_alerts_that_were_not_delivered_are_told_and_fail(store: Store) -> None:
    put(store, Alert(at=datetime.now(UTC), document={"text": "pipeline monday: Failed. cause"}))
    status, text = shown("status", "--store", store.root)
    assert status == 1
    assert "1 NOT DELIVERED" in text
    assert "pipeline monday: Failed. cause" in text


def test_releases_are_dated_by_their_making_and_their_data(
    store: Store, two: tuple[str, str]
) -> None:
    _, text = shown("releases", "--store", store.root)
    assert "data until" in text
    assert "1970-01-01" in text  # The small shop's events are of the first seconds.
    assert f"{decided(store)[0].at:%Y-%m-%d %H:%M}" in text


def test_a_release_whose_artifacts_are_gone_is_listed_as_gone(
    store: Store, two: tuple[str, str]
) -> None:
    folder = store.path(decided(store)[0].release)
    (folder / "manifest.json").unlink()
    status, text = shown("releases", "--store", store.root)
    assert status == 0
    assert "gone" in text


def test_compare_shows_the_settings_that_differ_and_no_others(
    store: Store, two: tuple[str, str]
) -> None:
    status, text = shown("compare", *two, "--store", store.root)
    assert status == 0, text
    row = next(line for line in text.splitlines() if "model.seed" in line)
    assert ("3" in row, "4" in row) == (True, True)
    assert "model.scoring" not in text
    assert "different data" not in text


def test_compare_refuses_a_name_that_no_release_has(store: Store, two: tuple[str, str]) -> None:
    status, text = shown("compare", two[0], "nothing", "--store", store.root)
    assert status == 1
    assert "nothing names 0 releases" in text
