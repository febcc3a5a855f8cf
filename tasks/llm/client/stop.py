"""What ends the asking of a whole run: an interrupt, a failure elsewhere, servers that are gone."""

import threading


class EndpointDownError(RuntimeError):
    """The endpoint stopped answering. What was answered is kept; run again to go on."""


class AskingStoppedError(RuntimeError):
    """The run that asked is ending: an interrupt, or a failure elsewhere."""


_INTERRUPTED = "the run was interrupted; what was answered is kept"

_stop = threading.Event()
_stop_reason = _INTERRUPTED


def stop_asking(reason: str | None = None) -> None:
    """Ends every `complete` and `embed` of this process, in whichever thread, within a moment.

    Without it, shards would go on retrying against servers that an interrupt has stopped.
    """
    global _stop_reason
    _stop_reason = reason or _stop_reason
    _stop.set()


def allow_asking() -> None:
    """Takes `stop_asking` back, for the next run in the same process."""
    global _stop_reason
    _stop_reason = _INTERRUPTED
    _stop.clear()


def is_stopped() -> bool:
    """Whether `stop_asking` was called."""
    return _stop.is_set()


def raise_if_stopped() -> None:
    """Raises `AskingStoppedError` after `stop_asking`; for who waits without asking."""
    if _stop.is_set():
        raise AskingStoppedError(_stop_reason)
