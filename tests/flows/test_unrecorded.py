"""A run whose Prefect server went away comes to the same, and does nothing twice."""

from collections.abc import Iterator
from typing import cast

import pytest
from prefect import Flow, flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.operating import ended
from flows.unrecorded import call
from tasks.frame import prefect_link
from tasks.frame.prefect_link import PrefectGoneError, link, watched
from tasks.llm.settings.budget import BudgetReachedError
from tasks.system.free_port import free_port

RAN: list[str] = []


def vanish_now() -> None:
    """What the watch does when it has waited."""
    to = link()
    assert to is not None
    to.give_up()


@flow(name="inner")
def inner(number: int) -> int:
    """A part of the run."""
    RAN.append("inner")
    return ended(number + 1, "done")


@flow(name="outer")
def outer(number: int, *, vanish: bool = False) -> int:
    """A run of two parts; the server vanishes between them."""
    RAN.append("outer")
    before = call(inner, number)
    if vanish:
        vanish_now()
    return ended(call(inner, before), "done")


@flow(name="vanishing")
def vanishing(number: int) -> int:
    """The server vanishes in it, and its body ends well."""
    RAN.append("vanishing")
    vanish_now()
    return ended(number + 1, "done")


@flow(name="over budget")
def over_budget() -> int:
    """The server vanishes, and the body fails for a reason of its own."""
    RAN.append("over budget")
    vanish_now()
    raise BudgetReachedError("5 USD are spent")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    RAN.clear()
    monkeypatch.setattr(prefect_link, "send_nothing_more", lambda: None)


@pytest.fixture
def recorded(prefect_server: str) -> Iterator[None]:
    with watched(prefect_server, waits=False):
        yield


@pytest.mark.usefixtures("recorded")
def test_a_recorded_run_is_as_always() -> None:
    assert call(outer, 1) == 3
    assert RAN == ["outer", "inner", "inner"]


@pytest.mark.usefixtures("recorded")
def test_a_server_that_goes_in_the_middle_changes_no_result_and_repeats_nothing() -> None:
    assert call(outer, 1, vanish=True) == 3
    assert RAN == ["outer", "inner", "inner"]


@pytest.mark.usefixtures("recorded")
def test_the_value_of_a_body_that_ended_is_kept() -> None:
    assert call(vanishing, 1) == 2
    assert RAN == ["vanishing"]


@pytest.mark.usefixtures("recorded")
def test_an_error_of_the_body_rises_as_itself_and_the_body_is_not_repeated() -> None:
    """A budget would otherwise be spent twice."""
    with pytest.raises(BudgetReachedError, match="5 USD"):
        call(over_budget)
    assert RAN == ["over budget"]


def test_without_a_server_from_the_beginning_the_flows_are_plain_functions() -> None:
    dead = f"http://127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: dead}), watched(dead, waits=False, gone=True):
        assert call(outer, 1) == 3
    assert RAN == ["outer", "inner", "inner"]


class _Unrecordable:
    """Stands for a flow whose start cannot be recorded."""

    def __call__(self) -> int:
        raise PrefectGoneError("away")

    def fn(self) -> int:
        RAN.append("unrecorded")
        return 1


def test_a_run_that_waits_for_its_server_is_not_run_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unrecordable = cast(Flow[[], int], _Unrecordable())
    dead = f"http://127.0.0.1:{free_port()}/api"
    with watched(dead, waits=False, gone=True) as to:
        assert call(unrecordable) == 1
        monkeypatch.setattr(to, "waits", True)
        with pytest.raises(PrefectGoneError):
            call(unrecordable)
    assert RAN == ["unrecorded"]
