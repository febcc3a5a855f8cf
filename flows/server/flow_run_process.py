"""The process of one flow run: Prefect's engine, tolerant of server outages and without stored
results.

A state in the API may name a file or URL of its result, and the serializer. Flows of this package
store results in artifacts only, so such a state is an attack: unpickling could execute code.
"""

import os
import runpy
import sys
from typing import NoReturn

from prefect.serializers import CompressedSerializer, JSONSerializer, PickleSerializer
from prefect.settings import PREFECT_API_URL

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
        "a new run in place of a retry, and look who may write to the Prefect API"
    )


def _end(error: BaseException) -> NoReturn:
    """Ends the process, which its worker tells the server."""
    os.write(
        sys.stderr.fileno(), f"a thread cannot run: {type(error).__name__}: {error}\n".encode()
    )
    os._exit(1)


if __name__ == "__main__":
    refuse_stored_results()
    with on_lost_thread(_end), watched(str(PREFECT_API_URL.value()), waits=True):
        runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
