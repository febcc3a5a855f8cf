"""The process of one flow run: Prefect's engine, patient with a server that is away for a while,
and without results that were stored by somebody.

A state in the API may say that its result lies in a file or at a URL, and which library and
function reads it. Flows of this package keep no results outside the artifact store, so whatever
would be read so was planted: by pickle alone it could run anything.
"""

import runpy
from typing import NoReturn

from prefect.serializers import CompressedSerializer, JSONSerializer, PickleSerializer
from prefect.settings import PREFECT_API_URL

from tasks.frame.prefect_link import watched


class StoredResultRefusedError(RuntimeError):
    """A state of the Prefect API names a stored result."""


def refuse_stored_results() -> None:
    """Makes this process read no result that a state of the Prefect API points to."""
    for kind in (PickleSerializer, JSONSerializer, CompressedSerializer):
        kind.loads = _refuse


def _refuse(self: object, blob: bytes) -> NoReturn:
    raise StoredResultRefusedError(
        "a state of this run names a stored result, which flows of this package never have; start "
        "a new run in place of a retry, and look who may write to the Prefect API"
    )


if __name__ == "__main__":
    refuse_stored_results()
    with watched(str(PREFECT_API_URL.value()), waits=True):
        runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
