"""A forgotten person is in no file of a store, and everybody else is served and paid for as before.

Real runs of the command line with the stand-in for a language model.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from artifacts.bundles import REFRESHED, parts_of
from artifacts.files.leftovers import ALERTS
from artifacts.files.ownership import locked
from artifacts.forgotten import FORGOTTEN_RULE, forgettings
from artifacts.kinds.dataset import ACCOUNTS, Dataset, read_dataset
from artifacts.kinds.results import RECOMMENDATIONS
from artifacts.kinds.user_profiles import read_user_profiles
from artifacts.leases import in_use
from artifacts.ledger.answers import Role
from artifacts.ledger.claims import questions
from artifacts.ledger.ledger import Ledger
from artifacts.manifest import Kind, identity
from artifacts.remote.remote_runs import StoreInUseError
from artifacts.rewriting import finish_rewrites, rewrite
from artifacts.store import Store
from benchmarks.preloaded_cli import PreloadedCli
from tasks.forgetting.forget import forget
from tasks.promoting.promotion import require_sound
from tasks.serving.recommender import Recommender
from tasks.serving.user_names import UnknownUserError
from tasks.upkeep.backup import back_up
from tests.flows.server.prefect_servers import closed_server_in
from tests.tasks.forgetting.leaving_person import (
    GONE,
    USERS,
    AboutPerson,
    Runs,
    about_person,
    files_with,
    write_dump,
)

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Forgotten:
    """A store after two runs and a forgetting, and what was in it before."""

    folder: Path
    runs: Runs
    about: AboutPerson
    recommended: pl.DataFrame
    said: str

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")


@pytest.fixture(scope="module")
def forgotten(
    tmp_path_factory: pytest.TempPathFactory, commands: PreloadedCli, prefect_database: Path
) -> Iterator[Forgotten]:
    folder = tmp_path_factory.mktemp("forgetting")
    write_dump(folder)
    with closed_server_in(folder / "prefect", prefect_database) as server:
        yield forgotten_by(Runs(commands, folder, server))


def forgotten_by(runs: Runs) -> Forgotten:
    folder = runs.folder
    runs.refresh(style="retrieval")
    runs.refresh()
    runs.retrain()
    store = Store(folder / "store")
    about = about_person(store)
    served = Recommender.load(store)
    copies = store.workspace("dumps") / "copy"
    copies.mkdir()
    (copies / "interactions.csv").write_text(f"{GONE},x")
    (store.workspace("logs") / "run.log").write_text(f"user {GONE!r} has many events\nfine\n")
    alerts = store.workspace("alerts")
    (alerts / "00000001.json").write_text(f'{{"text": "user {GONE} has many events"}}')
    (alerts / "00000002.json").write_text('{"text": "fine"}')
    (folder / "ids.txt").write_text(f"{GONE}\n")
    recommended = served.recommend_users([u for u in served.user_ids if u != GONE], k=5)
    back_up(store, folder / "backup.tar")
    said = runs("forget", "--ids", "ids.txt", "nobody-of-that-name")
    (folder / "backup.tar").rename(folder.parent / f"{folder.name}.tar")
    assert served.is_latest(store) is False
    (folder / "ids.txt").unlink()
    (folder / "dump" / "interactions.parquet").rename(folder.parent / f"{folder.name}.parquet")
    return Forgotten(folder, runs, about, recommended, said)


def test_the_id_is_in_no_file_of_store_logs_and_prefect(forgotten: Forgotten) -> None:
    assert files_with(forgotten.folder, GONE) == []
    other = forgotten.recommended["user_id"][0]
    assert len(files_with(forgotten.store.local, other)) > 3  # The search finds who stays.


def test_prompts_and_answers_about_the_person_are_gone(forgotten: Forgotten) -> None:
    assert forgotten.about.titles
    ledger = Ledger(forgotten.store.local, Role.CHAT)
    asked = questions(ledger).collect()
    assert asked.height > USERS
    assert asked.filter(pl.col("prompt").is_in(list(forgotten.about.prompts))).is_empty()
    listed = ["\n".join(f"- {title}" for title in titles) for titles in forgotten.about.titles]
    assert not any(
        text in "".join(m["content"] for m in json.loads(prompt)["messages"])
        for prompt in asked["prompt"]
        for text in listed
        if text.count("\n") > 1
    )
    assert files_with(forgotten.store.local, *forgotten.about.texts) == []


def test_what_was_removed_and_what_was_not_is_told_and_logged_without_an_id(
    forgotten: Forgotten,
) -> None:
    assert "1 of 2 were in a dataset" in forgotten.said
    for what in ("dataset", "user profiles", "recommendations", "report", "ledger rows (chat)"):
        assert what in forgotten.said
    assert "the weights of models" in forgotten.said
    assert "copies of a remote store on other machines" in forgotten.said
    (entry,) = forgettings(forgotten.store)
    assert (entry.people, entry.removed["dataset"]) == (2, 1)
    assert (forgotten.store.local / "work/logs/run.log").read_text() == "fine\n"


def test_alerts_that_wait_and_do_not_name_the_person_stay(forgotten: Forgotten) -> None:
    alerts = forgotten.store.local / "work" / ALERTS
    assert [path.name for path in alerts.glob("*.json")] == ["00000002.json"]


def test_every_artifact_is_sound_and_the_release_is_served_without_the_person(
    forgotten: Forgotten,
) -> None:
    store = forgotten.store
    for kind in Kind:
        for manifest in store.artifacts(kind):
            store.verify(manifest.ref)
    served = Recommender.load(store)
    require_sound(store, served.facts.ref)
    with pytest.raises(UnknownUserError):
        served.recommend_users([GONE])
    assert len(served.user_ids) == forgotten.about.data.users.height - 1
    assert served.recommend_users(k=5).equals(forgotten.recommended)


def test_the_others_keep_events_profiles_vectors_and_lists(forgotten: Forgotten) -> None:
    store, old = forgotten.store, forgotten.about.data
    refreshed = store.pointed(REFRESHED)
    assert refreshed is not None
    parts = parts_of(store, refreshed)
    new = read_dataset(store, parts["dataset"])
    was = _histories(old)
    del was[GONE]
    assert _histories(new) == was
    profiles = read_user_profiles(store, parts["profiles"])
    named = new.users.select("user_index", "user_id")
    told = profiles.profiles.join(named, on=["user_index", "user_id"], how="semi")
    assert told.height == profiles.profiles.height > USERS // 2
    assert len(profiles.vectors) == new.users.height
    assert profiles.has_profile.sum() == told.height
    (lists,) = store.artifacts(Kind.RECOMMENDATIONS)
    table = pl.read_parquet(store.path(lists.ref) / RECOMMENDATIONS)
    assert table["user_id"].n_unique() == new.users.height


def _histories(data: Dataset) -> dict[str, list[tuple[int, int, int]]]:
    ids = data.users["user_id"].to_list()
    return {
        user: list(
            zip(
                data.item_indices[data.offsets[n] : data.offsets[n + 1]].tolist(),
                data.timestamps[data.offsets[n] : data.offsets[n + 1]].tolist(),
                data.splits[data.offsets[n] : data.offsets[n + 1]].tolist(),
                strict=True,
            )
        )
        for n, user in enumerate(ids)
    }


def test_the_next_dump_does_not_bring_the_person_back_and_nobody_is_paid_for_twice(
    forgotten: Forgotten,
) -> None:
    folder, store = forgotten.folder, forgotten.store
    dump = folder.parent / f"{folder.name}.parquet"
    rows = pl.read_parquet(dump)
    events = rows.filter(user_id=GONE).height
    one = rows.filter(pl.col("user_id") != GONE).head(1)
    later = one.with_columns(pl.col("timestamp") + 1)
    pl.concat([rows, later]).write_parquet(folder / "again.parquet")
    ledger = Ledger(store.local, Role.CHAT)
    before = questions(ledger).collect()["key"].n_unique()
    forgotten.runs.refresh("again.parquet")
    (folder / "again.parquet").unlink()
    newest = store.artifacts(Kind.DATASET)[-1]
    assert GONE not in read_dataset(store, newest.ref).users["user_id"].to_list()
    accounts = pl.read_parquet(store.path(newest.ref) / ACCOUNTS)
    assert accounts.filter(rule=FORGOTTEN_RULE)["gone"].sum() == events
    asked = questions(ledger).collect()["key"].n_unique() - before
    assert asked <= 4  # One person has one more event: at most their own prompts are new.
    assert files_with(folder, GONE) == []


def test_a_backup_of_before_does_not_bring_the_person_back(forgotten: Forgotten) -> None:
    folder, store = forgotten.folder, forgotten.store
    backup = folder.parent / f"{folder.name}.tar"
    said = forgotten.runs("restore", str(backup), "--replace")
    assert "removed from it: 1" in said
    assert files_with(folder, GONE) == []
    assert files_with(store.local, *forgotten.about.texts) == []
    assert Recommender.load(store).recommend_users(k=5).equals(forgotten.recommended)


def test_a_store_that_is_being_written_to_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    place = store.local / Kind.MODEL
    place.mkdir(parents=True)
    with (
        locked(place / ".abc.1234.tmp.lock"),
        pytest.raises(StoreInUseError, match="wait until it has ended"),
    ):
        forget(store, ["ada"])
    with in_use(store.local), pytest.raises(StoreInUseError, match=r"1 run\(s\) use"):
        forget(store, ["ada"])
    assert forget(store, ["ada"]).counts == {"copies and partial files": 1}


def test_a_kill_between_the_two_names_of_an_artifact_is_put_right(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    made = identity(Kind.MODEL, {"seed": 1}, {})
    with store.create(made) as draft:
        (draft.path / "x").write_text("old")
    with rewrite(store, made.ref) as draft:
        (draft.path / "x").write_text("new")
    place = store.path(made.ref)
    place.rename(place.with_name(f".rewritten-{place.name}"))
    assert store.find(made) is None
    finish_rewrites(store)
    assert (store.path(made.ref) / "x").read_text() == "new"
    store.verify(made.ref)
