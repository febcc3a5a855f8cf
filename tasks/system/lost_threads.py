"""Threads that end before their first line, or for lack of memory: a wait for them never ends.

`threading.Thread.start` waits for a signal of the new thread. If memory runs out before the thread
sends it, the caller waits for ever; the same holds for the result of a thread that ends by an
error. The interpreter passes such errors to its hooks in the failed thread, which has no memory for
a Python function: the hooks are therefore the C function ``SimpleQueue.put``, and a thread started
earlier reads the queue.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from tasks.system.machine_errors import is_lack

_BEFORE_ITS_FIRST_LINE = "in thread started by"
"""Part of the interpreter's message about an error outside of `threading.Thread.run`."""


@contextmanager
def on_lost_thread(end: Callable[[BaseException], None]) -> Iterator[None]:
    """Calls ``end``, which should end the process, with the error of a thread of the block that did
    not reach its first line, or that ended for lack of files, memory or threads.

    Other errors of threads are passed to the previous hooks. Raises RuntimeError if no thread can
    be started.
    """
    told: SimpleQueue[sys.UnraisableHookArgs | threading.ExceptHookArgs | None] = SimpleQueue()
    unraisable, uncaught = sys.unraisablehook, threading.excepthook

    def watch() -> None:
        while (lost := told.get()) is not None:
            error = lost.exc_value
            if isinstance(lost, threading.ExceptHookArgs):
                if error is not None and is_lack(error):
                    end(error)
                uncaught(lost)
            else:
                if _BEFORE_ITS_FIRST_LINE in (lost.err_msg or ""):
                    end(error or MemoryError())
                unraisable(lost)
            del lost, error  # An object that is being finalised must not live on here.

    watching = threading.Thread(target=watch, name="lost threads", daemon=True)
    watching.start()
    sys.unraisablehook = threading.excepthook = told.put
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = unraisable, uncaught
        told.put(None)
        watching.join()
