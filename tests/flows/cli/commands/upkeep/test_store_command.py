"""`llm4cdsr store` on real stores; cleaning beside a real run, and an unchanged run after it and
after a restore."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from flows.cli.command_table import app
from flows.cli.commands.upkeep import store_command
from tasks.promoting.promotion import promote, require_sound
from tasks.promoting.release_history import serving_release
from tasks.upkeep.backup import back_up
from tasks.upkeep.cleaning import clean
from tasks.upkeep.needed import Keep
from tasks.upkeep.restore import restore
from tests.fakes import CHAT, EMBEDDINGS, FaultPlan, faulty_endpoint
from tests.flows.command_shop import SMALL_TRAINING, Shop
from tests.tasks.upkeep.kept_store import everything, make, release


def invoke(store: Store, *arguments: str) -> Result:
    return CliRunner().invoke(
        app, ["store", *arguments, "--store", store.root], env={"COLUMNS": "200"}
    )


def test_a_run_beside_cleaning_comes_to_its_end_and_an_unchanged_one_after_it_pays_nothing(
    shop: Shop, tmp_path: Path
) -> None:
    log = tmp_path / "run.log"
    with faulty_endpoint(FaultPlan(latency_s=0.02)) as server, log.open("wb") as output:
        process = subprocess.Popen(
            shop.command(*SMALL_TRAINING),
            cwd=shop.folder,
            env=shop.environment(server),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        beside = 0
        while process.poll() is None:
            if shop.store.local.is_dir():
                cleaned = clean(shop.store, Keep(releases=1, days=0))
                assert not {each.kind for each in cleaned.waste} & set(Kind), cleaned.waste
                beside += cleaned.runs
            time.sleep(0.05)
        assert process.returncode == 0, log.read_text("utf-8")
        assert beside > 10, "no cleaning was beside the run"

        done = invoke(shop.store, "gc", "--keep", "1", "--days", "0")
        assert done.exit_code == 0, done.output
        asked = server.requests_to(CHAT) + server.requests_to(EMBEDDINGS)
        served, before = serving_release(shop.store), everything(shop.store)
        assert served is not None
        require_sound(shop.store, served)

        # The unchanged run is on what is restored from a backup.
        back_up(shop.store, tmp_path / "backup.tar")
        shutil.rmtree(shop.store.local)
        restore(shop.store, tmp_path / "backup.tar")
        assert serving_release(shop.store) == served
        again = shop.run(*SMALL_TRAINING, server=server)
        assert again.returncode == 0, again.stderr
        assert server.requests_to(CHAT) + server.requests_to(EMBEDDINGS) == asked
    assert everything(shop.store) == before, "something was made again"


def test_releases_are_listed_with_what_needs_them(store: Store) -> None:
    served = release(store, 0)
    lost = make(store, Kind.MODEL, 99)
    listed = invoke(store, "ls")
    rows = [line for line in listed.output.splitlines() if line.startswith("│")]
    lines = {row.split()[1]: row for row in rows}
    assert "served" in lines[str(served)]
    assert "by nothing" in lines[str(lost)]
    only = invoke(store, "ls", "--kind", "release").output
    assert str(served) in only
    assert str(lost) not in only


def test_a_store_that_may_only_be_read_is_listed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = release(store, 0)

    def refuse(local: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store_command, "cleaning", refuse)
    listed = invoke(store, "ls")
    assert listed.exit_code == 0, listed.output
    assert str(served) in listed.output


def test_an_artifact_is_shown_by_how_its_name_begins(store: Store) -> None:
    ref = make(store, Kind.MODEL, 4)
    shown = json.loads(invoke(store, "show", str(ref)[:12]).stdout)
    assert (shown["kind"], shown["fingerprint"]) == (ref.kind, ref.fingerprint)
    assert shown["parameters"] == {"number": 4}
    assert invoke(store, "show", "nothing-like-it").exit_code != 0


def test_verification_names_a_flipped_byte_and_ends_with_1(store: Store) -> None:
    refs = [make(store, Kind.MODEL, number) for number in range(3)]
    assert invoke(store, "verify").exit_code == 0
    data = store.local / refs[1].kind / refs[1].fingerprint / "data"
    data.write_bytes(b"\x02" + data.read_bytes()[1:])
    found = invoke(store, "verify")
    assert found.exit_code == 1
    assert "has other content than was written" in found.output
    assert "it was moved to" in found.output
    assert "3 artifacts" in found.output
    assert invoke(store, "verify").exit_code == 0


def test_cleaning_says_what_it_frees_by_kind_and_a_dry_run_names_each(store: Store) -> None:
    release(store, 0)
    lost = make(store, Kind.MODEL, 99)
    told = invoke(store, "gc", "--dry-run")
    assert lost.fingerprint in told.output
    assert "no release or run needs it" in told.output
    assert lost in everything(store)
    done = invoke(store, "gc")
    assert done.exit_code == 0
    assert "model" in done.output
    assert lost not in everything(store)


def test_a_release_goes_to_another_store_with_all_that_it_is_made_of(
    store: Store, tmp_path: Path
) -> None:
    chosen, other = release(store, 0), release(store, 1)
    carried, there = Store(tmp_path / "disk"), Store(tmp_path / "there")
    done = invoke(store, "export", str(chosen), carried.root)
    assert done.exit_code == 0, done.output
    assert other not in everything(carried)
    there.local.mkdir()
    done = invoke(there, "import", carried.root)
    assert done.exit_code == 0, done.output
    assert everything(there) == everything(carried)
    promote(there, chosen, "from elsewhere")
    assert serving_release(there) == chosen


@pytest.mark.parametrize("command", ["ls", "verify", "gc", "usage"])
def test_a_store_that_is_not_there_is_one_line(command: str, tmp_path: Path) -> None:
    done = invoke(Store(tmp_path / "nowhere"), command)
    assert done.exit_code == 2
    assert "is not a folder" in done.output
    assert not (tmp_path / "nowhere").exists()


def test_usage_counts_every_byte_of_the_store(store: Store) -> None:
    release(store, 0)
    (store.workspace("logs") / "a.log").write_bytes(b"x" * 1_000)
    (store.local / "ledger" / "chat").mkdir(parents=True)
    (store.local / "ledger" / "chat" / "part").write_bytes(b"x" * 2_000)
    output = invoke(store, "usage").output
    files = [path for path in store.local.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    assert f"{len(files):,}" in output.splitlines()[-2]
    assert f"{size / 1e6:,.1f}" in output.splitlines()[-2]
    assert "work: logs" in output


def test_a_name_of_several_artifacts_is_refused(store: Store) -> None:
    refs: list[ArtifactRef] = [make(store, Kind.MODEL, number) for number in range(2)]
    done = invoke(store, "show", "model/")
    assert done.exit_code != 0
    assert f"names {len(refs)} artifacts" in str(done.exception)
