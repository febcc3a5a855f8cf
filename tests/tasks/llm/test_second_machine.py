"""A machine with an empty cache pays for nothing that another one of its store has paid for."""

from pathlib import Path

import pytest

from artifacts.ledger.answers import Role
from artifacts.ledger.ledger import open_ledger
from artifacts.store import Store
from tests.artifacts.machines import Machine
from tests.fakes import CHAT, EMBEDDINGS, FaultPlan, faulty_endpoint
from tests.tasks.llm.asking import ask, chat_at, embed_all
from tests.tasks.shops.small_shop import LENIENT, endpoint_of, spec_of

TEXTS = [f"tea number {number}" for number in range(9)]

pytestmark = pytest.mark.usefixtures("inline_shards")


def test_a_second_machine_asks_nothing_and_after_a_change_the_change_alone(
    machine: Machine,
) -> None:
    config = LENIENT.model_copy(update={"shard_size": 4})
    with faulty_endpoint() as server:
        chat, embedding = chat_at(server.base_url), endpoint_of(spec_of(server.base_url))
        first = ask(TEXTS, chat, machine("first"), config)
        vectors = embed_all(TEXTS, embedding, machine("first"), config)
        requests = server.requests_to(CHAT), server.requests_to(EMBEDDINGS)
        second = ask(TEXTS, chat, machine("second"), config)
        same = embed_all(TEXTS, embedding, machine("second"), config)
        assert (server.requests_to(CHAT), server.requests_to(EMBEDDINGS)) == requests
        changed = ask([*TEXTS[2:], "something new"], chat, machine("third"), config)
        assert server.requests_to(CHAT) == requests[0] + 1
    assert second.answers.sort("key").equals(first.answers.sort("key"))
    assert same.answers.sort("key").equals(vectors.answers.sort("key"))
    assert (second.usage.requests, second.usage.reused) == (0, 9)
    assert (changed.usage.requests, changed.usage.reused) == (1, 7)


def test_what_a_stage_got_before_it_ended_early_is_in_the_store(machine: Machine) -> None:
    with faulty_endpoint(FaultPlan(refuse="number 3")) as server:
        first = ask(TEXTS, chat_at(server.base_url), machine("first"))
        server.plan = FaultPlan()
        before = server.requests_to(CHAT)
        second = ask(TEXTS, chat_at(server.base_url), machine("second"))
        assert server.requests_to(CHAT) - before == 1
    assert first.failures.height == 1
    assert second.answers.height == 9


def test_a_local_store_keeps_its_ledger_as_it_was(tmp_path: Path) -> None:
    with faulty_endpoint() as server:
        ask(TEXTS, chat_at(server.base_url), Store(tmp_path / "store"))
    ledger = open_ledger(Store(tmp_path / "store"), Role.CHAT)
    assert ledger.shared is None
    assert not [path.name for path in ledger.folder.iterdir() if path.is_dir()]
