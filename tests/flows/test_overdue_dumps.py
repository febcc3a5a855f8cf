"""A dump that does not become complete is alerted of once, after the configured time."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from artifacts.store import Store
from flows import watch as module
from flows.watch import WAITING, _story, watch
from tasks.alerts import webhook
from tasks.alerts.webhook import WEBHOOK_VARIABLE
from tasks.dump.sources.dump_watch import LandedDump, Look
from tests.tasks.alerts.inbox import Inbox, receiving

HOUR = 3600.0


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    with receiving([]) as server:
        monkeypatch.setenv(WEBHOOK_VARIABLE, server.url)
        yield server


@pytest.mark.usefixtures("prefect_server")
def test_an_upload_that_never_ends_is_alerted_of_once(
    tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (0.0, 0.0))
    clock = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: clock[0]))
    store, dumps = Store(tmp_path / "store"), tmp_path / "dumps"
    (dumps / "monday").mkdir(parents=True)
    (dumps / "monday" / "items.csv").write_text("item_id,domain\n")
    partial = dumps / "monday" / "interactions.csv.part"

    def scan(hour: float) -> list[str]:
        clock[0] = hour * HOUR
        with partial.open("a") as file:
            file.write("one more row\n")
        inbox.received.clear()
        watch(dumps=str(dumps), store=store.root)
        return [told["message"] for told in inbox.received if told["state"] == WAITING]

    assert scan(0) == []
    assert scan(5.9) == []
    (told,) = scan(6)
    assert told.startswith(f"{dumps}/monday waits for 6.0 hours and is not read: no interactions.*")
    assert scan(7) == []
    partial.rename(dumps / "monday" / "interactions.csv")
    (dumps / "monday" / "_SUCCESS").touch()
    partial = dumps / "tuesday" / "interactions.csv"
    partial.parent.mkdir()
    (dumps / "tuesday" / "items.csv").write_text("item_id,domain\n")
    assert scan(8) == []
    (told,) = scan(14)
    assert "tuesday waits for 6.0 hours and is not read: its files are new or still chang" in told


def test_names_of_folders_are_shown_as_they_are() -> None:
    name = "![a](b.png)"
    landed = LandedDump(folder=f"dumps/{name}", interactions="i", items="j", checksum="k")
    found = _story(name, Look(landed=[landed], waiting={name: "<img>"}, known=[name]))
    assert found.count(r"!\[a\](b.png)") == 4
    assert r"\<img\>" in found
