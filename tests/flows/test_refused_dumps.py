"""A dump that nothing can come of ends the command with one line, status 2, and no request."""

from pathlib import Path

import pytest

from tests.fakes import CHAT, EMBEDDINGS, FaultyServer
from tests.flows.command_shop import Shop
from tests.tasks.dump.dump_files import Row, as_csv, changed, events_of, items_of


def single_events() -> list[Row]:
    return [{**row, "user_id": f"order{place}"} for place, row in enumerate(events_of())]


REFUSED = {
    "single events": (single_events(), items_of(), "no user has two training events"),
    "no text": (events_of(), changed(items_of(), title=""), "no item of the domain food has a"),
    "ids": (
        events_of(),
        changed(items_of(), item_id=lambda item: str(item).lower()),
        "the items of events and item files do not match",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_dump_costs_no_request_and_leaves_no_trace(
    kind: str, tmp_path: Path, folder_shop: Shop, stub: FaultyServer
) -> None:
    rows, items, said = REFUSED[kind]
    dump = ("--interactions", as_csv(tmp_path / "e.csv", rows))
    described = ("--items", as_csv(tmp_path / "i.csv", items))
    asked = ["refresh", *dump, *described, "--clusters", "2"]
    done = folder_shop.commands.run(asked, tmp_path, folder_shop.environment(stub))
    assert done.returncode == 2, done.stderr
    assert stub.requests_to(CHAT) + stub.requests_to(EMBEDDINGS) == 0
    assert f"Failed: {said}" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
