"""A run with other models than the latest refresh says so before it sends anything."""

import logging
import shutil
from pathlib import Path

import pytest
from pydantic import JsonValue

from artifacts.bundles import REFRESHED, bundle
from artifacts.manifest import Kind, identity
from artifacts.store import Store
from tasks.llm.providers.changed_models import warn_of_changed_models
from tasks.llm.providers.endpoints import Endpoint, Endpoints


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    models = {"chat": ["writer", {"temperature": 0.2}], "embedding": ["e5", {}]}
    wanted = identity(Kind.USER_PROFILES, models, {})
    with store.create(wanted) as draft:
        (draft.path / "profiles.parquet").write_bytes(b"")
    bundle(store, Kind.REFRESH, REFRESHED, {"profiles": wanted.ref})
    return store


def said(
    caplog: pytest.LogCaptureFixture,
    store: Store,
    chat: str = "writer",
    embedding: str = "e5",
    fields: dict[str, JsonValue] | None = None,
) -> list[str]:
    def spec() -> None:
        raise AssertionError

    models = Endpoints(
        Endpoint(chat, {"temperature": 0.2}, (), spec),  # pyright: ignore[reportArgumentType]
        Endpoint(embedding, fields or {}, (), spec),  # pyright: ignore[reportArgumentType]
    )
    caplog.clear()
    with caplog.at_level(logging.WARNING, "llm4cdsr"):
        warn_of_changed_models(store, models)
    return [record.getMessage().partition(";")[0] for record in caplog.records]


def test_each_other_model_or_request_field_is_named_with_the_earlier_one(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("llm4cdsr"), "propagate", True)
    assert said(caplog, store) == []
    assert said(caplog, store, embedding="bge") == ["The embedding model is bge"]
    assert said(caplog, store, chat="poet") == ['The chat model is poet {"temperature": 0.2}']
    shorter = said(caplog, store, fields={"dimensions": 64})
    assert shorter == ['The embedding model is e5 {"dimensions": 64}']


def test_nothing_is_said_of_a_first_run_or_of_profiles_that_are_gone(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert said(caplog, Store(tmp_path / "new"), "poet", "bge") == []
    shutil.rmtree(Path(store.root) / Kind.USER_PROFILES)
    assert said(caplog, store, "poet", "bge") == []
