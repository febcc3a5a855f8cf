"""After a removal of users a machine uses none of its older copies and brings none back."""

import polars as pl

from artifacts import columns as col
from artifacts.fingerprint import sha256_of
from artifacts.forgotten import log_forgetting
from artifacts.ledger.answers import Answer, Question, Role
from artifacts.ledger.claims import PROMPT, Claims, questions
from artifacts.ledger.ledger import Ledger, open_ledger
from artifacts.machines.cached_copies import catch_up, note_removed
from artifacts.machines.store_in_use import store_in_use
from artifacts.manifest import Kind, identity
from artifacts.rewriting import drop, rewrite
from artifacts.store import Store
from tests.artifacts.machines import Machine

MADE, DROPPED = (identity(Kind.MODEL, {"n": number}, {}) for number in range(2))
KEYS = [sha256_of(name) for name in ("stays", "goes")]


def put(store: Store, content: str) -> None:
    for made in (MADE, DROPPED):
        with store.create(made) as draft:
            (draft.path / "x").write_text(content)


def ask(store: Store) -> None:
    ledger = open_ledger(store, Role.CHAT)
    prompts = pl.DataFrame({col.KEY: KEYS, PROMPT: ["of who stays", "of who goes"]})
    with Claims(ledger, *Question("model", {})) as claims:
        claims.take(prompts)
        with ledger.journal("model") as journal:
            journal.append(*(Answer(key, f"to {key}", None, "stop", 1, 1) for key in KEYS))


def remove_on(store: Store) -> int:
    """Returns the number of answers removed from the bucket."""
    with rewrite(store, MADE.ref) as draft:
        (draft.path / "x").write_text("without them")
    drop(store, DROPPED.ref)
    ledger = open_ledger(store, Role.CHAT)
    assert ledger.shared is not None
    ledger.shared.pull()
    note_removed(store, KEYS[1:])
    removed = ledger.shared.remove(pl.Series(KEYS[1:]))
    log_forgetting(store, 1, {})
    return removed


def test_a_machine_uses_what_the_store_has_and_deletes_the_rest(machine: Machine) -> None:
    put(machine("one"), "with them")
    two = machine("two")
    assert [(two.path(made.ref) / "x").read_text() for made in (MADE, DROPPED)] == ["with them"] * 2
    ask(two)
    logs = two.workspace("logs") / "run.log"
    logs.write_text("with them")
    two.workspace("spool").joinpath("rows").write_text("with them")
    assert remove_on(machine("one")) == 1
    catch_up(two)
    assert two.find(DROPPED) is None
    assert two.remote is not None
    assert two.remote.manifest(DROPPED.ref) is None
    assert (two.path(MADE.ref) / "x").read_text() == "without them"
    two.verify(MADE.ref)
    assert (logs.read_text(), (two.local / "work" / "spool").exists()) == ("", False)
    for name in ("two", "three"):
        ledger = open_ledger(machine(name), Role.CHAT)
        ledger.refresh()
        assert ledger.answers(pl.Series(KEYS))[col.KEY].to_list() == KEYS[:1]
    assert questions(Ledger(two.local, Role.CHAT)).collect()[PROMPT].to_list() == ["of who stays"]


def test_a_copy_that_no_run_uses_is_not_put_back(machine: Machine) -> None:
    put(machine("one"), "with them")
    two = machine("two")
    two.path(DROPPED.ref)
    remove_on(machine("one"))
    two.holds(DROPPED.ref)
    assert two.remote is not None
    assert two.remote.manifest(DROPPED.ref) is None
    with store_in_use(two):
        assert not two.holds(DROPPED.ref)
    assert two.remote.manifest(DROPPED.ref) is None


def test_rewritten_parts_hold_the_other_answers_and_no_object_the_removed_ones(
    machine: Machine,
) -> None:
    one = machine("one")
    put(one, "x")
    ask(one)
    remove_on(one)
    assert one.remote is not None
    names = [name for name in one.remote.names("ledger", "chat") if name.startswith("part-")]
    assert len(names) == 1
    content = one.remote.read("ledger", "chat", names[0]) or b""
    assert (KEYS[0].encode() in content, KEYS[1].encode() in content) == (True, False)
    assert open_ledger(one, Role.CHAT).shared.pull() == 0  # type: ignore[union-attr]
