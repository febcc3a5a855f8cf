"""Exports against the recommender's own answers, and what an older export or folder becomes."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from artifacts.kinds.results import RECOMMENDATION_SCHEMA
from artifacts.store import Store
from tasks.serving.catalogue import UnknownDomainError
from tasks.serving.export import export_recs
from tasks.serving.export.export_recs import (
    ExportConfig,
    Exported,
    NotAnExportError,
    export_recommendations,
)
from tasks.serving.export.file_formats import TableFormat
from tasks.serving.recommender import Recommender
from tests.tasks.serving.small_release import small_release
from tests.tasks.shops.small_shop import EVENTS, TITLES, SmallShop


@pytest.fixture
def recommender(store: Store) -> Recommender:
    small_release(store)
    return Recommender.load(store)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_files_hold_what_the_recommender_says_one_domain_each(
    recommender: Recommender,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exclude_seen: bool,
) -> None:
    monkeypatch.setattr(export_recs, "BLOCK_USERS", 2)  # So that there are several blocks.
    config = ExportConfig(k=3, exclude_seen=exclude_seen)
    done: list[int] = []
    made = export_recommendations(recommender, tmp_path / "out", config, done.append)
    for domain, part in made.domains.items():
        table = pl.read_parquet(tmp_path / "out" / part.file)
        expected = recommender.recommend_users(domain=domain, k=3, exclude_seen=exclude_seen)
        assert table.schema == RECOMMENDATION_SCHEMA
        assert table.drop("score").rows() == expected.drop("score").rows()
        assert part.rows == table.height
        assert part.items == table["item_id"].n_unique()
        short = 5 - expected.filter(rank=3).height
        assert part.short_lists == short
    assert sum(done) == 5 * 2
    stored = (tmp_path / "out" / "export.json").read_text()
    assert Exported.model_validate_json(stored) == made


def test_csv_files_hold_the_rows_of_the_parquet_files(
    recommender: Recommender, tmp_path: Path
) -> None:
    made = {
        form: export_recommendations(recommender, tmp_path / form, ExportConfig(k=3, form=form))
        for form in TableFormat
    }
    for domain, part in made[TableFormat.CSV].domains.items():
        rows = pl.read_csv(tmp_path / "csv" / part.file, schema=RECOMMENDATION_SCHEMA)
        whole = tmp_path / "parquet" / made[TableFormat.PARQUET].domains[domain].file
        assert rows.equals(pl.read_parquet(whole))


def test_only_users_with_a_newer_event_are_exported_and_the_others_counted(
    recommender: Recommender, tmp_path: Path
) -> None:
    since = datetime.fromtimestamp(5, UTC)  # Only ada has an event at second 5.
    config = ExportConfig(since=since, domains=("books",))
    made = export_recommendations(recommender, tmp_path / "out", config)
    assert (made.users, made.users_left_out) == (1, 4)
    table = pl.read_parquet(tmp_path / "out" / "*.parquet")
    assert set(table.select("user_id", "domain").rows()) == {("ada", "books")}


def test_an_older_export_is_replaced_as_a_whole(recommender: Recommender, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_recommendations(recommender, out, ExportConfig(k=1))
    export_recommendations(recommender, out, ExportConfig(k=2, domains=("gear", "gear")))
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "gear.parquet"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_a_folder_of_something_else_is_left_alone(recommender: Recommender, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(NotAnExportError, match="another folder"):
        export_recommendations(recommender, tmp_path, ExportConfig())
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_file_and_the_current_folder_are_left_alone(
    recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(NotAnExportError, match="another folder"):
        export_recommendations(recommender, tmp_path / "mine.txt", ExportConfig())
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    for folder in (Path(), Path(".."), here):
        with pytest.raises(NotAnExportError, match="current folder"):
            export_recommendations(recommender, folder, ExportConfig())
    assert list(here.iterdir()) == []


def test_the_target_of_a_link_is_replaced(recommender: Recommender, tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    out, link = folder / "out", folder / "link"
    export_recommendations(recommender, out, ExportConfig(k=1))
    link.symlink_to(out)
    export_recommendations(recommender, link, ExportConfig(k=2, domains=("gear",)))
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "gear.parquet"]
    assert sorted(path.name for path in folder.iterdir()) == ["link", "out"]
    assert link.readlink() == out


def test_an_unknown_domain_leaves_the_older_export(
    recommender: Recommender, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export_recommendations(recommender, out, ExportConfig(k=1))
    with pytest.raises(UnknownDomainError):
        export_recommendations(recommender, out, ExportConfig(domains=("shoes",)))
    assert (out / "gear.parquet").exists()


def test_a_domain_of_any_name_is_exported_under_a_short_one_with_the_true_name_inside(
    store: Store, tmp_path: Path
) -> None:
    true = {"books": "😀" * 60, "gear": "[/red]../x"}
    shop = SmallShop(
        events=tuple((user, item, true[domain], at) for user, item, domain, at in EVENTS),
        titles={(true[domain], item): title for (domain, item), title in TITLES.items()},
    )
    small_release(store, shop=shop)
    made = export_recommendations(Recommender.load(store), tmp_path / "out", ExportConfig(k=2))
    assert set(made.domains) == set(true.values())
    for domain, part in made.domains.items():
        assert set(pl.read_parquet(tmp_path / "out" / part.file)["domain"]) == {domain}
