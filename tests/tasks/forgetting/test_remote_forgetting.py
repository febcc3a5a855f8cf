"""A forgotten person is in no object of a shared store, and in no cache of a machine that used it
again. Real runs of the command line on a real S3 server, a cache a machine."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest

from artifacts.forgotten import is_interrupted
from artifacts.machines.store_in_use import InterruptedRemovalError, store_in_use
from artifacts.manifest import Kind
from artifacts.remote import remote_lease
from artifacts.store import Store
from benchmarks.preloaded_cli import PreloadedCli
from tasks.forgetting.forget import forget
from tasks.serving.recommender import Recommender
from tests.artifacts.machines import Machine, machines, s3_bucket
from tests.flows.server.command_variables import REPOSITORY
from tests.flows.server.prefect_servers import ServerLogin
from tests.tasks.forgetting.leaving_person import (
    GONE,
    AboutPerson,
    Runs,
    about_person,
    files_with,
    told_by,
    write_dump,
)

pytestmark = pytest.mark.slow

KILLED = 77
KILL_AT = """
import os, sys
from artifacts.remote import remote_lease
from artifacts.remote.remote_side import RemoteStore
from artifacts.store import Store
from tasks.forgetting.forget import forget

remote_lease.LEASE_SECONDS, remote_lease.BEAT_SECONDS = 2.0, 0.5
left = int(sys.argv[3])

def dying(change):
    def changed(self, *args):
        global left
        place = args[0] if change.__name__ == "delete" else args[1]
        left -= place not in ("removal", "runs", "leases")
        if left < 0:
            os._exit(77)
        return change(self, *args)
    return changed

for name in ("write", "put", "delete"):
    setattr(RemoteStore, name, dying(getattr(RemoteStore, name)))
forget(Store(sys.argv[1]), [sys.argv[2]])
"""
"""A removal that dies before a change of the bucket of a given number."""


@dataclass(frozen=True)
class Shared:
    """A store in a bucket: two machines have run on it, a third one has forgotten the person."""

    runs: Runs
    about: AboutPerson
    kills: int
    refused: list[str]

    @property
    def folder(self) -> Path:
        return self.runs.folder

    def objects_with(self, *texts: str) -> list[str]:
        files, place = fsspec.core.url_to_fs(self.runs.store)
        files.invalidate_cache()
        found = files.find(place)
        assert len(found) > 40
        told = {path: path + told_by(files.cat_file(path)) for path in found}
        return [path for path, said in told.items() if any(text in said for text in texts)]


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, commands: PreloadedCli, closed_server: ServerLogin
) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("remote")
    write_dump(folder)
    with s3_bucket() as bucket, pytest.MonkeyPatch.context() as environment:
        root = f"s3://{bucket}/store"
        runs = Runs(commands, folder, closed_server, root)
        one, two = (cache(folder / name) for name in ("one", "two"))
        runs.refresh(style="retrieval", **two)
        runs.refresh(**one)
        runs.retrain(**one)
        machine = machines(root, folder, environment)
        about = about_person(machine("one"))
        Recommender.load(machine("service"))
        left_by_dead_machines(machine("one"), machine("two"))
        before = Shared(runs, about, 0, [])
        assert before.objects_with(GONE)
        assert before.objects_with(*about.texts)
        kills, refused = killed_at_every_step(folder, root, machine)
        with pytest.MonkeyPatch.context() as quick:
            quick.setattr(remote_lease, "LEASE_SECONDS", 2.0)  # Of all that died, one by one.
            forget(machine("three"), [GONE])
        yield Shared(runs, about, kills, refused)


def cache(folder: Path) -> dict[str, str]:
    return {"LLM4CDSR_CACHE": str(folder)}


def left_by_dead_machines(one: Store, two: Store) -> None:
    """Lets the bucket and a cache have what killed processes, cleaning and damage leave."""
    remote = one.remote
    assert remote is not None
    told = f"tells of {GONE}".encode()
    (lists,) = one.artifacts(Kind.RECOMMENDATIONS)
    remote.write(told, lists.kind, lists.fingerprint, "files-of-a-killed-upload", "x.txt")
    of_a_killed_maker = "0123456789abcdef"
    remote.write(told, lists.kind, of_a_killed_maker, "files-x", "lists.txt")
    remote.write(told, "set-aside", "dataset-0.json")
    remote.write(told, "ledger", "chat", "claims", "dead.parquet")
    profiles = one.artifacts(Kind.USER_PROFILES)[0].ref
    assert remote.unlist(profiles, remote.manifest(profiles) or b"")
    asked = sorted((two.local / "ledger" / "chat").glob("questions-*.parquet"))
    assert asked
    for path in asked:  # As of a run that was killed while it asked.
        path.rename(path.with_name(path.name.replace("questions-", "claim-")))
    two.workspace("ingest").joinpath("rows.csv").write_bytes(told)
    two.workspace("logs").joinpath("run.log").write_bytes(told)


def killed_at_every_step(folder: Path, root: str, machine: Machine) -> tuple[int, list[str]]:
    """Lets removals die, each later than the one before; returns how many did, and what runs were
    told meanwhile."""
    variables = {"LLM4CDSR_CACHE": str(folder / "three"), "PYTHONPATH": str(REPOSITORY)}
    deaths, refused = 0, []
    for changes in (1, 4, 8, 13, 20):
        done = subprocess.run(
            [sys.executable, "-c", KILL_AT, root, GONE, str(changes)],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode in (0, KILLED), done.stderr
        deaths += done.returncode == KILLED
        if done.returncode == KILLED and is_interrupted(machine("one")):
            with pytest.MonkeyPatch.context() as quick:
                quick.setattr(remote_lease, "LEASE_SECONDS", 2.0)
                try:
                    with store_in_use(machine("one")):
                        pass
                except InterruptedRemovalError as error:
                    refused.append(str(error))
    return deaths, refused


def test_no_object_of_the_bucket_tells_of_the_person(shared: Shared) -> None:
    assert shared.about.titles
    assert shared.objects_with(GONE) == []
    assert shared.objects_with(*shared.about.texts) == []
    files, place = fsspec.core.url_to_fs(shared.runs.store)
    assert not files.find(f"{place}/ledger/chat/claims")
    other = shared.about.data.users["user_id"].to_list()
    assert len(shared.objects_with(next(user for user in other if user != GONE))) > 3


def test_removals_that_died_are_completed_and_runs_wait_for_that(shared: Shared) -> None:
    assert shared.kills >= 4
    assert shared.refused
    assert all("complete it by `llm4cdsr forget" in told for told in shared.refused)


def test_machines_that_used_the_store_before_keep_nothing_after_their_next_use(
    shared: Shared,
) -> None:
    one, two = (cache(shared.folder / name) for name in ("one", "two"))
    assert files_with(shared.folder / "one", GONE)
    assert files_with(shared.folder / "two", *shared.about.texts)
    told = shared.runs.refresh(**one)
    assert "users were removed from" in told
    shared.runs.refresh(style="retrieval", **two)
    for name in ("one", "two", "three"):
        assert files_with(shared.folder / name, GONE, *shared.about.prompts) == [], name
        assert files_with(shared.folder / name, *shared.about.texts) == [], name
    assert shared.objects_with(GONE, *shared.about.texts) == []
