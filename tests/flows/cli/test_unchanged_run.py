"""A run with nothing to do is recognised, and everything that gives it something to do is seen."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from artifacts.bundles import REFRESHED, bundle, create_bundle
from artifacts.forgotten import log_forgetting
from artifacts.manifest import COMPLETE, ArtifactRef, Kind, identity
from artifacts.store import Store
from artifacts.store_notes import write_note
from flows.cli import unchanged_run
from flows.cli.unchanged_run import (
    NOTE,
    FinishedRun,
    digest_of_run,
    finished_run,
    note_finished_run,
    reused_stages,
)
from tasks.dump.dump_config import DumpConfig, Mode
from tasks.frame.stage import StageResult
from tasks.promoting.promotion import hold, promote
from tasks.promoting.verdict import Verdict
from tests.flows.command_shop import SMALL_TRAINING, Shop

ASKED = "the digest of a run"
VERDICT = Verdict(
    promoted=True,
    reasons=(),
    basis="nothing was served before",
    served_ndcg=None,
    candidate_ndcg=None,
    user_coverage=1.0,
)


@pytest.fixture(autouse=True)
def unreported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "LLM4CDSR_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dump(tmp_path: Path) -> DumpConfig:
    for name in ("interactions.csv", "items.csv"):
        (tmp_path / name).write_text(f"some bytes of {name}")
    return DumpConfig(
        interactions=str(tmp_path / "interactions.csv"), items=str(tmp_path / "items.csv")
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def made(store: Store, kind: Kind, outcome: str = COMPLETE) -> ArtifactRef:
    wanted = identity(kind, {"of": "a run"}, {}, outcome)
    with store.create(wanted) as draft:
        (draft.path / "data.bin").write_bytes(b"what the stage made")
        draft.counts["rows"] = 3
    return wanted.ref


def noted(store: Store, outcome: str = COMPLETE) -> FinishedRun:
    """Leaves the artifacts and the note of a run whose release is served."""
    dataset, model = made(store, Kind.DATASET, outcome), made(store, Kind.MODEL)
    refreshed = bundle(store, Kind.REFRESH, REFRESHED, {"dataset": dataset})
    release = create_bundle(store, Kind.RELEASE, {"dataset": dataset, "model": model})
    promote(store, release, "for the test")
    stages = tuple(
        StageResult(stage=name, ref=ref, reused=False, seconds=1.0, counts={}, notes=[])
        for name, ref in (("ingest", dataset), ("train", model))
    )
    note_finished_run(store, ASKED, stages, refreshed, release, VERDICT)
    return FinishedRun(
        asked=ASKED,
        stages=tuple((stage.stage, stage.ref) for stage in stages),
        refreshed=refreshed,
        release=release,
        serving=release,
        verdict=VERDICT,
    )


def data_file(store: Store, ref: ArtifactRef) -> Path:
    return store.local / ref.kind / ref.fingerprint / "data.bin"


def test_a_finished_run_is_found_with_the_counts_of_its_stages(store: Store) -> None:
    done = noted(store)
    assert finished_run(store, ASKED) == done
    stages = reused_stages(store, done)
    assert [(stage.stage, stage.reused, stage.counts) for stage in stages] == [
        ("ingest", True, {"rows": 3}),
        ("train", True, {"rows": 3}),
    ]


def test_another_digest_is_another_run(store: Store) -> None:
    noted(store)
    assert finished_run(store, "another digest") is None


def test_a_deleted_file_of_an_artifact_is_seen(store: Store) -> None:
    data_file(store, noted(store).stages[1][1]).unlink()
    assert finished_run(store, ASKED) is None


def test_one_changed_byte_of_an_artifact_is_seen(store: Store) -> None:
    file = data_file(store, noted(store).stages[0][1])
    file.chmod(0o600)
    file.write_bytes(file.read_bytes().replace(b"what", b"whaT"))
    assert finished_run(store, ASKED) is None


def test_a_deleted_release_is_seen(store: Store) -> None:
    release = noted(store).release
    (store.local / release.kind / release.fingerprint / "manifest.json").unlink()
    assert finished_run(store, ASKED) is None


def test_a_later_refresh_of_other_data_is_seen(store: Store) -> None:
    model = noted(store).stages[1][1]
    bundle(store, Kind.REFRESH, REFRESHED, {"tables": model})
    assert finished_run(store, ASKED) is None


def test_a_release_served_in_between_is_seen(store: Store) -> None:
    model = noted(store).stages[1][1]
    promote(store, create_bundle(store, Kind.RELEASE, {"model": model}), "by hand")
    assert finished_run(store, ASKED) is None


def test_a_release_held_in_between_changes_nothing(store: Store) -> None:
    done = noted(store)
    hold(store, create_bundle(store, Kind.RELEASE, {"model": done.stages[1][1]}), "worse")
    assert finished_run(store, ASKED) == done


def test_failed_items_are_asked_again(store: Store) -> None:
    noted(store, outcome="3 of 10 items failed")
    assert finished_run(store, ASKED) is None


def test_an_unreadable_note_is_no_finished_run(store: Store) -> None:
    noted(store)
    write_note(store, NOTE, b"{not json")
    assert finished_run(store, ASKED) is None


def _add_byte(dump: DumpConfig, monkeypatch: pytest.MonkeyPatch, store: Store) -> DumpConfig:
    assert isinstance(dump.interactions, str)
    path = Path(dump.interactions)
    path.write_bytes(path.read_bytes().replace(b"some", b"sOme"))
    return dump


def _set_seed(dump: DumpConfig, monkeypatch: pytest.MonkeyPatch, store: Store) -> DumpConfig:
    return dump.model_copy(update={"seed": 1})


def _set_variable(dump: DumpConfig, monkeypatch: pytest.MonkeyPatch, store: Store) -> DumpConfig:
    monkeypatch.setenv("LLM4CDSR_DUMP_MAX_GB", "1")
    return dump


def _forget_user(dump: DumpConfig, monkeypatch: pytest.MonkeyPatch, store: Store) -> DumpConfig:
    log_forgetting(store, 1, {"events": 3})
    return dump


def _change_code(dump: DumpConfig, monkeypatch: pytest.MonkeyPatch, store: Store) -> DumpConfig:
    changed = store.local / "rooms" / "flows" / "cli" / "module.py"
    changed.parent.mkdir(parents=True)
    changed.write_text("A_LINE = 1")
    monkeypatch.setattr(unchanged_run, "__file__", str(changed))
    return dump


@pytest.mark.parametrize(
    "change", [_add_byte, _set_seed, _set_variable, _forget_user, _change_code]
)
def test_every_change_of_what_decides_the_results_changes_the_digest(
    change: Callable[[DumpConfig, pytest.MonkeyPatch, Store], DumpConfig],
    dump: DumpConfig,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = digest_of_run(dump, {"seed": 0}, None, store)
    assert before == digest_of_run(dump, {"seed": 0}, None, store)
    assert digest_of_run(change(dump, monkeypatch, store), {"seed": 0}, None, store) != before


def test_one_file_may_have_events_and_items(dump: DumpConfig, store: Store) -> None:
    both = dump.model_copy(update={"items": dump.interactions})
    assert digest_of_run(both, {"seed": 0}, None, store) is not None


def test_options_and_the_content_of_a_preset_file_are_part_of_the_digest(
    dump: DumpConfig, store: Store, tmp_path: Path
) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text("[train]\nbatch_size = 64\n")
    first = digest_of_run(dump, {"seed": 0}, preset, store)
    preset.write_text("[train]\nbatch_size = 65\n")
    second = digest_of_run(dump, {"seed": 0}, preset, store)
    assert len({first, second, digest_of_run(dump, {"seed": 1}, preset, store)}) == 3


def test_a_key_is_not_part_of_the_digest(
    dump: DumpConfig, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one")
    before = digest_of_run(dump, {}, None, store)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-two")
    assert digest_of_run(dump, {}, None, store) == before


def test_a_run_that_appends_reads_urls_or_is_reported_is_never_skipped(
    dump: DumpConfig, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    appended = dump.model_copy(update={"mode": Mode.APPEND})
    remote = dump.model_copy(update={"items": "s3://bucket/items.csv"})
    assert digest_of_run(appended, {}, None, store) is None
    assert digest_of_run(remote, {}, None, store) is None
    for name in ("PREFECT_API_URL", "LLM4CDSR_WEBHOOK_URL"):
        with monkeypatch.context() as within:
            within.setenv(name, "http://127.0.0.1:1/api")
            assert digest_of_run(dump, {}, None, store) is None
    profiles = tmp_path / "prefect" / "profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text('[profiles.here]\nPREFECT_API_URL = "http://127.0.0.1:1/api"\n')
    assert digest_of_run(dump, {}, None, store) is None


def test_recognition_and_its_output_need_neither_prefect_nor_torch() -> None:
    code = (
        "import flows.cli.commands.runs.run_commands, flows.cli.unchanged_run, sys\n"
        "import flows.cli.output.run_results, flows.cli.options.configurations\n"
        "print({'prefect', 'torch', 'openai'} & {*sys.modules})"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert ended.stdout.strip() == "set()"


def test_a_repeated_run_prints_its_results_without_a_server(shop: Shop) -> None:
    shop = replace(shop, recorded={})
    wanted = ("--provider", "dummy", *SMALL_TRAINING, "--serve-anyway")
    first = shop.run(*wanted)
    assert first.returncode == 0, first.stderr
    again = shop.run(*wanted, "--report", "copy.html")
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("Nothing has changed since the last run")
    assert "Prefect" not in again.stderr + again.stdout
    assert (shop.folder / "copy.html").exists()
    results = again.stdout.partition("Recommended to user")[2]
    assert results
    assert results == first.stdout.partition("Recommended to user")[2]
