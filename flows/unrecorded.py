"""Continuation of a run without its Prefect server: flows are then plain functions.

Finished stages are in the store, so no work is repeated.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar, cast

import httpx
from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED, temporary_settings

from tasks.frame.prefect_link import link

P = ParamSpec("P")
R = TypeVar("R")

_ended: ContextVar[list[object] | None] = ContextVar("ended", default=None)


def note_end(value: object) -> None:
    """Stores the result of a flow's body before it is reported to Prefect."""
    noted = _ended.get()
    if noted is not None:
        noted.append(value)


def call(flow: Flow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Runs a flow; if its server is lost, runs the flow's body unrecorded.

    Raises:
        the error of the flow's body.
    """
    with _noting() as noted:
        try:
            return flow(*args, **kwargs)
        except Exception as error:
            to = link()
            if to is None or not to.given_up:
                raise
            if noted:  # The body had ended; only the recording failed.
                return cast(R, noted[-1])
            if (own := error_of_the_body(error)) is not None:
                raise own from None
        # Each task opens a client, which would request the server's version.
        with temporary_settings({PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False}):
            return _value(cast(Callable[P, R], flow.fn)(*args, **kwargs))


@contextmanager
def _noting() -> Iterator[list[object]]:
    noted: list[object] = []
    token = _ended.set(noted)
    try:
        yield noted
    finally:
        _ended.reset(token)


def error_of_the_body(error: BaseException | None) -> BaseException | None:
    """Returns the error of the flow's body in the chain of a recording error."""
    while error is not None and _is_of_recording(error):
        error = error.__context__
    return error


def _is_of_recording(error: BaseException) -> bool:
    of_client = isinstance(error, (httpx.HTTPError, PrefectException))
    return of_client or (
        type(error) is RuntimeError and isinstance(error.__cause__, httpx.HTTPError)
    )


def _value(given: R) -> R:
    """Returns the value of a state returned by a flow."""
    return cast(R, given.data) if isinstance(given, State) else given
