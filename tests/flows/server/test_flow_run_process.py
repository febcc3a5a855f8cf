"""The end of a run that the Prefect server cannot record, such as on a full disk, is reported."""

import errno
import sys
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from flows.server.flow_run_process import unrecorded_end_told
from tasks.alerts.gone_runs import SCAN
from tasks.alerts.webhook import WEBHOOK_VARIABLE
from tests.tasks.alerts.inbox import Inbox, receiving


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    with receiving([]) as server:
        monkeypatch.setenv(WEBHOOK_VARIABLE, server.url)
        yield server


def variables(flow: str) -> dict[str, str]:
    ids = {f"PREFECT__FLOW{name}_ID": str(uuid4()) for name in ("", "_RUN")}
    return {"PREFECT__FLOW_NAME": flow, **ids}


def engine_that_cannot_record(body: Exception | None) -> None:
    """Ends as Prefect's engine does: status 1 in the handler of the server's answer."""
    request = httpx.Request("POST", "http://127.0.0.1/api/flow_runs/1/set_state")
    answer = httpx.HTTPStatusError("500", request=request, response=httpx.Response(500))
    try:
        try:
            if body:
                raise body
        finally:
            raise answer
    except httpx.HTTPStatusError:
        sys.exit(1)


def told_of(inbox: Inbox, flow: str, body: Exception | None) -> list[str]:
    with pytest.raises(SystemExit), unrecorded_end_told(variables(flow)):
        engine_that_cannot_record(body)
    return [each["message"] for each in inbox.received]


def test_an_end_that_is_not_recorded_is_told_by_its_cause(inbox: Inbox) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/store/x")
    (message,) = told_of(inbox, "pipeline", full)
    assert message.startswith("the disk is full: OSError: [Errno 28] No space left on device")
    assert message.endswith("; the Prefect server did not record the end (HTTPStatusError)")
    assert inbox.received[0]["run"] == "pipeline"


def test_a_success_that_is_not_recorded_is_told(inbox: Inbox) -> None:
    (message,) = told_of(inbox, "pipeline", None)
    assert message == "the Prefect server did not record the end (HTTPStatusError)"


def test_a_dump_scan_is_not_told_every_minute(inbox: Inbox) -> None:
    assert told_of(inbox, SCAN, OSError(errno.ENOSPC, "No space left on device")) == []


def test_an_end_that_is_recorded_is_left_to_the_hooks(inbox: Inbox) -> None:
    with pytest.raises(SystemExit), unrecorded_end_told(variables("pipeline")):
        sys.exit(0)
    assert inbox.received == []
