"""End of all requests of a run: interrupt, failure elsewhere, unreachable servers."""

import threading


class EndpointDownError(RuntimeError):
    """The endpoint is unreachable. Answers are kept; run again to continue."""


class AskingStoppedError(RuntimeError):
    """The run is ending, by an interrupt or a failure elsewhere."""


_INTERRUPTED = "the run was interrupted; answers are kept"

_stop = threading.Event()
_stop_reason = _INTERRUPTED


def stop_asking(reason: str | None = None) -> None:
    """Ends every `complete` and `embed` of this process in all threads.

    Without it, shards would keep retrying servers that an interrupt has stopped.
    """
    global _stop_reason
    _stop_reason = reason or _stop_reason
    _stop.set()


def allow_asking() -> None:
    """Reverts `stop_asking`, for the next run in the same process."""
    global _stop_reason
    _stop_reason = _INTERRUPTED
    _stop.clear()


def is_stopped() -> bool:
    """Returns whether `stop_asking` was called."""
    return _stop.is_set()


def raise_if_stopped() -> None:
    """Raises `AskingStoppedError` after `stop_asking`; for waiting code."""
    if _stop.is_set():
        raise AskingStoppedError(_stop_reason)
