"""The process of one flow run: Prefect's engine, tolerant of server outages and without stored
results. An end that the server cannot record, such as on a full disk, is posted to the webhook
here: state hooks follow a recorded state only.

A state in the API may name a file or URL of its result, and the serializer. Flows of this package
store results in artifacts only, so such a state is an attack: unpickling could execute code.
"""

import os
import runpy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.serializers import CompressedSerializer, JSONSerializer, PickleSerializer
from prefect.settings import PREFECT_API_URL
from prefect.states import Failed

from flows.server.end_hooks import store_of
from flows.unrecorded import error_of_the_body
from tasks.alerts.gone_runs import SCAN
from tasks.alerts.webhook import post_end
from tasks.frame.prefect_link import watched
from tasks.system.lost_threads import on_lost_thread


class StoredResultRefusedError(RuntimeError):
    """A state of the Prefect API names a stored result."""


def refuse_stored_results() -> None:
    """Prevents this process from reading results named by states of the Prefect API."""
    for kind in (PickleSerializer, JSONSerializer, CompressedSerializer):
        kind.loads = _refuse


def _refuse(self: object, blob: bytes) -> NoReturn:
    raise StoredResultRefusedError(
        "a state of this run names a stored result, which flows of this package never have; start "
        "a new run in place of a retry, and check who may write to the Prefect API"
    )


def _end(error: BaseException) -> NoReturn:
    """Ends the process; its worker reports the end to the server."""
    os.write(
        sys.stderr.fileno(), f"a thread cannot run: {type(error).__name__}: {error}\n".encode()
    )
    os._exit(1)


@contextmanager
def unrecorded_end_told(environment: Mapping[str, str]) -> Iterator[None]:
    """Posts a run's end to the webhook if the engine ends without having recorded it.

    A dump scan's is not posted: the next scan would post it again.
    """
    try:
        yield
    except SystemExit as end:
        # Where the server has recorded the end, the engine's status is 0.
        name = environment["PREFECT__FLOW_NAME"]
        if end.code and end.__context__ is not None and name != SCAN:
            run = FlowRun(
                id=UUID(environment["PREFECT__FLOW_RUN_ID"]),
                flow_id=UUID(environment["PREFECT__FLOW_ID"]),
                name=name,
            )
            post_end(store_of(run), name, run, Failed(message=_message(end.__context__)))
        raise


def _message(error: BaseException) -> str:
    cause = error_of_the_body(error)
    unrecorded = f"the Prefect server did not record the end ({type(error).__name__})"
    return f"{type(cause).__name__}: {cause}; {unrecorded}" if cause else unrecorded


if __name__ == "__main__":
    refuse_stored_results()
    with (
        on_lost_thread(_end),
        watched(str(PREFECT_API_URL.value()), waits=True),
        unrecorded_end_told(os.environ),
    ):
        runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
