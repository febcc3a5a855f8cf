"""Hashed names of users: one per user and store, and none that tells the id."""

import hmac
from pathlib import Path

import pytest

from artifacts.forgotten import Forgotten
from artifacts.shown_users import (
    PREFIX,
    SHOWN_VARIABLE,
    UserKeyError,
    hashed_users,
    quoted,
    shown_users,
)
from artifacts.store import Store
from artifacts.user_error import InvalidSettingError

KEY = "operation/forgotten/secret.key"


def test_names_are_ids_unless_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    monkeypatch.delenv(SHOWN_VARIABLE, raising=False)
    assert shown_users(store).name("ada") == "ada"
    assert quoted("ada") == "'ada'"
    assert not (tmp_path / "store").exists()
    monkeypatch.setenv(SHOWN_VARIABLE, "hashed")
    assert shown_users(store).name("ada") == hashed_users(store).name("ada") != "ada"
    assert "ada" not in quoted("ada")
    monkeypatch.setenv(SHOWN_VARIABLE, "hash")
    with pytest.raises(InvalidSettingError, match="hash is unknown; set plain or hashed"):
        shown_users(store)


def test_a_name_is_stable_in_a_store_and_another_one_elsewhere(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    name = hashed_users(store).name("ada")
    assert name.startswith(PREFIX)
    assert hashed_users(Store(tmp_path / "store")).name("ada") == name
    Forgotten(store).add(["bob"])
    assert hashed_users(store).name("ada") == name
    assert hashed_users(Store(tmp_path / "other")).name("ada") != name


def test_a_name_does_not_tell_who_is_forgotten(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    name = hashed_users(store).name("ada").removeprefix(PREFIX)
    Forgotten(store).add(["ada"])
    key = (store.local / KEY).read_bytes()
    kept = (store.local / "operation/forgotten/hashes.json").read_text()
    assert hmac.digest(key, b"ada", "sha256").hex() in kept
    assert name not in kept


def test_a_lost_key_is_not_replaced_where_it_recognises_forgotten_users(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    Forgotten(store).add(["ada"])
    (store.local / KEY).unlink()
    with pytest.raises(UserKeyError, match="unpack it from a backup"):
        hashed_users(store)
    assert not (store.local / KEY).exists()
