"""Progress: counted by whoever works, shown to whoever looks, in the way of nobody."""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterId

from tasks.frame import progress as shown
from tasks.frame.progress import advance, progress

InFlow = Callable[[Callable[[], Any]], Any]


def test_steps_of_many_threads_add_up_and_never_pass_the_total() -> None:
    with progress("count", 1_000) as bar:
        threads = [
            threading.Thread(target=lambda: [advance(bar.token, 1) for _ in range(300)])
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bar.done == 900
        advance(bar.token, 300, "last")
        assert (bar.done, bar.note) == (1_000, "last")


def test_a_token_of_elsewhere_or_of_a_finished_stage_is_left_alone() -> None:
    with progress("count", 3) as bar:
        pass
    advance(bar.token, 1)
    advance("of another process", 1)
    assert bar.done == 0


def test_a_failing_stage_leaves_no_bar_behind() -> None:
    with pytest.raises(ZeroDivisionError), progress("count", 3):
        raise ZeroDivisionError
    assert not shown._open
    assert shown._bars is None


def test_without_a_terminal_the_log_tells_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shown, "LOG_EVERY_SECONDS", -1.0)
    with caplog.at_level(logging.INFO, "llm4cdsr"), progress("count", 8) as bar:
        bar.advance(3, "going well")
    assert "count: 3 of 8 going well" in caplog.text


def test_steps_from_inside_an_event_loop_reach_the_prefect_ui(
    monkeypatch: pytest.MonkeyPatch, in_flow: InFlow
) -> None:
    monkeypatch.setattr(shown, "UI_EVERY_SECONDS", -1.0)

    async def read(artifact: Any) -> float:
        async with get_client() as client:
            only = ArtifactFilter(id=ArtifactFilterId(any_=[artifact]))
            (found,) = await client.read_artifacts(artifact_filter=only)
            return float(str(found.data))

    async def work(token: str) -> None:
        advance(token, 1)

    def stage() -> tuple[Any, list[float]]:
        seen = []
        with progress("count", 4) as bar:
            asyncio.run(work(bar.token))
            seen.append(asyncio.run(read(bar._artifact)))
            bar.advance(2)
        seen.append(asyncio.run(read(bar._artifact)))
        return bar._artifact, seen

    artifact, seen = in_flow(stage)
    assert artifact is not None
    assert seen == [25.0, 75.0]


def test_a_stage_of_no_steps_is_no_division_by_zero(in_flow: InFlow) -> None:
    def stage() -> None:
        with progress("nothing", 0) as bar:
            bar.advance(1)

    in_flow(stage)
