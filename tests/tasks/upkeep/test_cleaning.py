"""Cleaning deletes what nothing needs, and nothing else: beside runs, and when it is killed."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artifacts.integrity import ArtifactNewerError
from artifacts.leases import in_use
from artifacts.manifest import MANIFEST, Kind, identity
from artifacts.store import Store
from tasks.frame.training_sources import checkpoints_of, note_sources
from tasks.promoting.promotion import require_sound, roll_back
from tasks.promoting.release_history import HistoryDamagedError, serving_release
from tasks.upkeep.cleaning import clean
from tasks.upkeep.needed import Keep
from tests.tasks.upkeep.kept_store import everything, make, refresh, release, require_whole

ROOM = Path(__file__).parents[3]
OLD = time.time() - 40 * 86_400


def age(path: Path, moment: float = OLD) -> Path:
    for each in [*path.rglob("*"), path]:
        os.utime(each, (moment, moment))
    return path


def test_what_is_served_the_releases_before_it_and_the_latest_refresh_stay(store: Store) -> None:
    releases = [release(store, number) for number in range(6)]
    latest = refresh(store, 6)
    cleaned = clean(store, Keep(releases=2))
    require_whole(store)
    kept = everything(store)
    assert [each in kept for each in releases] == [False, False, False, True, True, True]
    assert all(part in kept for part in latest.values())
    assert cleaned.by_kind()["model"] == (3, 6, cleaned.by_kind()["model"][2])
    # Three releases with what they are made of, and the bundles of all refreshes but the latest.
    assert len(cleaned.waste) == 3 * (5 + 3 + 1) + 6
    assert clean(store, Keep(releases=2)).waste == []


def test_a_dry_run_names_what_a_run_deletes_and_deletes_nothing(store: Store) -> None:
    for number in range(4):
        release(store, number)
    before = everything(store)
    told = clean(store, Keep(releases=1), dry_run=True)
    assert everything(store) == before
    sizes = sum(file.stat().st_size for each in told.waste for file in each.path.iterdir())
    assert told.bytes == sizes
    assert clean(store, Keep(releases=1)).waste == told.waste
    assert not any(each.path.exists() for each in told.waste)


def test_a_roll_back_after_cleaning_serves_the_release_before(store: Store) -> None:
    releases = [release(store, number) for number in range(4)]
    clean(store, Keep(releases=1))
    assert roll_back(store) == releases[-2]
    require_sound(store, releases[-2])
    clean(store, Keep(releases=1))
    assert serving_release(store) == releases[-2]
    require_sound(store, releases[-2])


def test_a_release_that_was_made_and_not_decided_on_stays(store: Store) -> None:
    release(store, 0)
    made = make(store, Kind.RELEASE, 7, model=make(store, Kind.MODEL, 7))
    clean(store, Keep(releases=1))
    require_sound(store, made)


MAKES_AND_WAITS = """
import sys, time
from artifacts.leases import in_use
from artifacts.manifest import Kind
from artifacts.store import Store
from tests.tasks.upkeep.kept_store import make
store = Store(sys.argv[1])
with in_use(store.local):
    dataset = make(store, Kind.DATASET, 77)
    make(store, Kind.ITEM_EMBEDDINGS, 77, dataset=dataset)
    print("made", flush=True)
    time.sleep(600)
"""


@contextmanager
def a_run(store: Store) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", MAKES_AND_WAITS, str(store.local)]
    with subprocess.Popen(command, cwd=ROOM, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "made\n"
            yield process
        finally:
            process.kill()


def test_what_a_run_has_made_stays_until_its_process_is_dead(store: Store) -> None:
    release(store, 0)
    before = set(map(str, everything(store)))
    with a_run(store) as process:
        cleaned = clean(store, Keep())
        assert (cleaned.runs, len(cleaned.waste)) == (1, 0)
        assert len(everything(store)) == len(before) + 2
        process.kill()
        process.wait()
    cleaned = clean(store, Keep())
    assert (cleaned.runs, len(cleaned.waste)) == (0, 2)
    assert set(map(str, everything(store))) == before


def test_what_a_run_has_found_is_there_when_it_opens_it(store: Store) -> None:
    wanted = identity(Kind.DATASET, {"number": 5}, {})
    stopped = threading.Event()

    def clean_all_the_time() -> None:
        while not stopped.is_set():
            clean(store, Keep())

    cleaner = threading.Thread(target=clean_all_the_time)
    cleaner.start()
    made = 0
    try:
        deadline = time.monotonic() + 60
        while made < 30 and time.monotonic() < deadline:
            with in_use(store.local):
                made += store.find(wanted) is None
                ref = make(store, Kind.DATASET, 5)
                assert (store.path(ref) / "data").stat().st_size == 100
    finally:
        stopped.set()
        cleaner.join()
    assert made == 30, "nothing was ever cleaned"


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from artifacts.store import Store
from tasks.upkeep import cleaning
from tasks.upkeep.needed import Keep
left = int(sys.argv[2])
def dies(function):
    def run(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return run
Path.rename = dies(Path.rename)
os.unlink = dies(os.unlink)
cleaning.clean(Store(sys.argv[1]), Keep(releases=1))
"""


@pytest.mark.parametrize("step", [0, 1, 7, 13, 19, 25])
def test_a_cleaning_that_is_killed_leaves_a_whole_store(store: Store, step: int) -> None:
    releases = [release(store, number) for number in range(4)]
    command = [sys.executable, "-c", KILLED, str(store.local), str(step)]
    done = subprocess.run(command, cwd=ROOM, check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    require_whole(store)
    require_sound(store, releases[-1])
    clean(store, Keep(releases=1))
    require_whole(store)
    assert len(everything(store)) == 2 * 9 + 1
    assert not any((store.local / ".trash").glob("*"))


def unfinished(store: Store) -> tuple[Path, list[str]]:
    """A training with a checkpoint, of the latest refresh."""
    parts = refresh(store, 50)
    sources = {role: parts[role] for role in ("dataset", "tables", "profiles")}
    wanted = identity(Kind.MODEL, {"number": 50}, sources)
    note_sources(store, wanted)
    checkpoint = store.workspace(checkpoints_of(wanted.fingerprint))
    (checkpoint / "state").write_bytes(b"weights")
    return checkpoint, [str(ref) for ref in sources.values()]


def test_an_unfinished_training_and_its_inputs_stay_until_it_is_old(store: Store) -> None:
    checkpoint, sources = unfinished(store)
    clean(store, Keep())
    assert (checkpoint / "state").exists()
    assert all(name in map(str, everything(store)) for name in sources)
    age(checkpoint)
    clean(store, Keep())
    assert not checkpoint.exists()


def test_an_unfinished_training_goes_when_a_later_refresh_has_replaced_its_inputs(
    store: Store,
) -> None:
    release(store, 0)
    checkpoint, sources = unfinished(store)
    clean(store, Keep())
    refresh(store, 51)
    clean(store, Keep())
    assert not checkpoint.exists()
    assert not any(name in map(str, everything(store)) for name in sources)
    assert list((store.local / "work" / "trainings").iterdir()) == []
    require_whole(store)


def files_of(store: Store) -> set[str]:
    """The files of artifacts and of work, but for decisions, whose names tell of their moments."""
    tops = [store.local / "work", *(store.local / kind for kind in Kind)]
    found = (path for top in tops for path in top.rglob("*") if path.is_file())
    return {path.relative_to(store.local).as_posix() for path in found}


def test_a_cleaned_store_does_not_depend_on_runs_that_were_killed(tmp_path: Path) -> None:
    calm, harmed = Store(tmp_path / "calm"), Store(tmp_path / "harmed")
    for number in range(6):
        unfinished(harmed)
        make(harmed, Kind.DATASET, 70 + number)
        (harmed.local / Kind.MODEL).mkdir(exist_ok=True)
        (harmed.local / Kind.MODEL / f".{number}.12345678.tmp.lock").touch()
        for store in (calm, harmed):
            release(store, number)
            clean(store, Keep(releases=1))
        assert files_of(harmed) == files_of(calm)


def test_a_checkpoint_stays_while_a_run_uses_the_store(store: Store) -> None:
    checkpoint, _ = unfinished(store)
    refresh(store, 51)
    age(checkpoint)
    with a_run(store):
        clean(store, Keep())
    assert checkpoint.exists()


def test_what_dead_processes_and_old_inputs_left_goes(store: Store) -> None:
    kept = release(store, 0)
    model = store.local / Kind.MODEL
    (model / ".abc.12345678.tmp").mkdir()
    (model / ".abc.12345678.tmp" / "half").write_bytes(b"x" * 10)
    (model / ".abc.12345678.tmp.lock").touch()
    (store.workspace("spool") / "a.parquet").write_bytes(b"x" * 20)
    (store.workspace("dumps") / "copy").mkdir()
    (store.workspace("dumps") / "copy" / "items.csv").write_bytes(b"x" * 30)
    age(store.workspace("dumps") / "copy")
    (store.local / "set-aside" / "model-x").mkdir(parents=True)
    age(store.local / "set-aside" / "model-x")
    age(store.workspace("logs")).joinpath("old.log").touch()
    age(store.workspace("logs") / "old.log")
    (store.local / ".trash" / "left").mkdir(parents=True)
    found = clean(store, Keep()).by_kind()
    assert {kind: files for kind, (_, files, _) in found.items()} == {
        "draft": 2,
        "spool": 1,
        "copy of a dump": 1,
        "set aside": 0,
        "log": 1,
        "trash": 0,
    }
    assert clean(store, Keep()).waste == []
    require_sound(store, kept)


def test_what_living_processes_and_new_inputs_need_stays(store: Store) -> None:
    (store.workspace("dumps") / "copy").mkdir()
    (store.workspace("logs") / "new.log").touch()
    (store.local / "set-aside" / "model-x").mkdir(parents=True)
    (store.local / "ledger" / "chat").mkdir(parents=True)
    (store.local / "ledger" / "chat" / "part.parquet").write_bytes(b"paid")
    age(store.local / "ledger")
    with store.create(identity(Kind.MODEL, {}, {})) as draft:
        assert clean(store, Keep()).waste == []
        assert draft.path.is_dir()
    assert (store.local / "ledger" / "chat" / "part.parquet").read_bytes() == b"paid"


def test_artifacts_of_a_newer_version_stay(store: Store) -> None:
    ref = make(store, Kind.MODEL, 3)
    manifest = store.local / ref.kind / ref.fingerprint / MANIFEST
    facts = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps(facts | {"schema_version": 99}))
    assert clean(store, Keep()).waste == []
    store.point("mine", ref)
    with pytest.raises(ArtifactNewerError, match="install the newer version"):
        clean(store, Keep())


def test_where_nobody_knows_what_is_served_nothing_is_deleted(store: Store) -> None:
    for number in range(4):
        release(store, number)
    before = everything(store)
    (store.local / "operation" / "decisions" / "00000004.json").write_text("garbage")
    with pytest.raises(HistoryDamagedError, match=r"00000004\.json is not a decision"):
        clean(store, Keep(releases=1))
    assert everything(store) == before


def test_a_run_holds_a_lease_that_others_cannot_read(store: Store) -> None:
    with in_use(store.local):
        make(store, Kind.DATASET, 1)
        (lease,) = (store.local / "work" / "leases").glob("*.lease")
        assert lease.stat().st_mode & 0o077 == 0
        assert store.local.stat().st_mode & 0o077 == 0
        assert len(lease.read_text().splitlines()) == 1
    assert list((store.local / "work" / "leases").glob("*.lease")) == []
