"""Only threads that cannot run end the process; other errors are told as before."""

import sys
import threading

import pytest

from tasks.system.lost_threads import on_lost_thread


class Unraisable:
    """Raises where nobody can catch it."""

    def __del__(self) -> None:
        raise ValueError("of a finaliser")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gives what reaches the hooks that were set before."""
    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(str(lost.exc_value)))
    monkeypatch.setattr(threading, "excepthook", lambda lost: told.append(str(lost.exc_value)))
    return told


def fail(error: Exception) -> None:
    raise error


def in_a_thread(error: Exception) -> None:
    thread = threading.Thread(target=fail, args=(error,))
    thread.start()
    thread.join()


def test_a_thread_that_ends_for_a_lack_is_lost_and_others_are_told(told: list[str]) -> None:
    ends: list[str] = []
    hooks = sys.unraisablehook, threading.excepthook
    with on_lost_thread(lambda error: ends.append(repr(error))):
        in_a_thread(ValueError("of a thread"))
        Unraisable()
        in_a_thread(MemoryError())
        in_a_thread(OSError(24, "Too many open files"))
    assert ends == ["MemoryError()", "OSError(24, 'Too many open files')"]
    assert told[:2] == ["of a thread", "of a finaliser"]
    assert (sys.unraisablehook, threading.excepthook) == hooks
