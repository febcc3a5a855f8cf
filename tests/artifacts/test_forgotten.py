"""The list of the forgotten knows an id again and tells none."""

import hashlib
from pathlib import Path

import polars as pl
import pytest

from artifacts.forgotten import Forgotten, forgettings, log_forgetting
from artifacts.shown_users import UserKeyError
from artifacts.store import Store

IDS = pl.Series(["ada", None, "bob", "ada ", "ADA", "", "zoë"])


def test_an_id_is_known_again_exactly(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert not Forgotten(store).holds(IDS).any()
    Forgotten(store).add(["ada", "zoë"])
    Forgotten(store).add(["ada"])
    again = Forgotten(Store(tmp_path / "store"))
    assert again.holds(IDS).to_list() == [True, False, False, False, False, False, True]
    assert again.holds(pl.Series([], dtype=pl.String)).len() == 0


def test_the_list_tells_no_id_even_to_who_knows_all_ids(tmp_path: Path) -> None:
    stores = [Store(tmp_path / name) for name in ("one", "two")]
    contents = []
    for store in stores:
        Forgotten(store).add(["ada"])
        contents.append((store.local / "operation/forgotten/hashes.json").read_text())
        key = store.local / "operation/forgotten/secret.key"
        assert key.stat().st_mode & 0o077 == 0
        assert len(key.read_bytes()) == 32
    assert contents[0] != contents[1]
    for algorithm in ("sha256", "sha1", "md5"):
        assert hashlib.new(algorithm, b"ada").hexdigest() not in contents[0]


def test_a_list_without_its_key_stops_instead_of_letting_people_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    Forgotten(store).add(["ada"])
    (store.local / "operation/forgotten/secret.key").unlink()
    with pytest.raises(UserKeyError, match="unpack it from a backup"):
        Forgotten(store)


def test_each_forgetting_is_logged_without_an_id(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    log_forgetting(store, 2, {"dataset": 1})
    log_forgetting(store, 1, {})
    assert [(each.people, each.removed) for each in forgettings(store)] == [
        (2, {"dataset": 1}),
        (1, {}),
    ]
