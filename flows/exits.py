"""How a command ends: one message instead of a trace, an exit status that scripts can read.

0: it did what was asked. 2: the input or the settings are wrong, and trying again will not help.
1: something else failed; what was answered is kept. 3: the budget is used up, which is no fault;
run again to go on. 130: interrupted.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from prefect.exceptions import PrefectException
from pydantic import ValidationError

from flows import console
from model.config import UnknownPresetError
from model.distributed import NoSuchDeviceError
from tasks.budget import BudgetNeedsPrice, BudgetNeedsThreads, BudgetReached
from tasks.bundle import NothingRefreshed
from tasks.catalogue import InvalidItems
from tasks.catalogue import UnknownDomain as UnknownServedDomain
from tasks.dataset_presets import RawFilesMissing, UnknownDataset
from tasks.dump_events import UnknownDomain
from tasks.dump_files import UnreadableDump
from tasks.embed_new_items import OtherEmbedder
from tasks.endpoint import stop_asking
from tasks.endpoints import IncompleteEndpoint
from tasks.experiment_grid import UnreadableGrid
from tasks.export_model import OnnxMissing
from tasks.export_recs import NotAnExport
from tasks.item_catalogue import TooFewDomains
from tasks.llm_config import NoApiKey
from tasks.local_setup import NotALocalEnvironment
from tasks.release import NothingServed
from tasks.split import NothingHeldOut

FAILED = 1
BAD_INPUT = 2
OVER_BUDGET = 3
INTERRUPTED = 130

GRACE_SECONDS = 5.0
"""From an interrupt to the end: time for journals to be sealed and servers to stop."""

ROOMS = frozenset({"flows", "tasks", "model", "prompts", "artifacts"})
INPUT_ERRORS = (
    UnreadableDump,
    UnknownDomain,
    TooFewDomains,
    NothingHeldOut,
    UnknownDataset,
    RawFilesMissing,
    UnknownPresetError,
    NoSuchDeviceError,
    IncompleteEndpoint,
    BudgetNeedsPrice,
    BudgetNeedsThreads,
    NoApiKey,
    NotALocalEnvironment,
    NothingRefreshed,
    UnreadableGrid,
    NothingServed,
    InvalidItems,
    UnknownServedDomain,
    NotAnExport,
    OnnxMissing,
    OtherEmbedder,
)


@contextmanager
def one_message() -> Iterator[None]:
    """An expected error ends the process with one message; an unexpected one keeps its trace."""
    try:
        yield
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        _end("Not valid:", "; ".join(faults), BAD_INPUT)
    except OSError as error:
        _end("Failed:", f"{error}; check the path, its permissions and the disk", FAILED)
    except BudgetReached as error:
        _end("Stopped:", _message(error), OVER_BUDGET)
    except PrefectException as error:
        text = (
            f"the Prefect API did not do its part ({type(error).__name__}: {error}). What was "
            "answered is kept; see work/logs/prefect-server.log in the store, or check "
            "PREFECT_API_URL, and run again"
        )
        _end("Failed:", text, FAILED)
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ROOMS:
            raise
        _end("Failed:", _message(error), status_of(error))


def status_of(error: Exception) -> int:
    """Returns the exit status that an error of our own ends with."""
    return BAD_INPUT if isinstance(error, INPUT_ERRORS) else FAILED


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end a run with one line, always.

    Python raises KeyboardInterrupt wherever the main thread happens to be; in a finalizer it is
    swallowed. So a clock runs from the signal on, and what has not ended by then is ended.
    Guarded processes (the local servers, Prefect's) end with us in any case.
    """

    def end(number: int, frame: FrameType | None) -> None:
        stop_asking()
        clock = threading.Timer(GRACE_SECONDS, _end_interrupted)
        clock.daemon = True
        clock.start()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        yield
    except KeyboardInterrupt:
        _end_interrupted()


def _end(label: str, text: str, status: int) -> NoReturn:
    """Ends with one message; ``text`` may hold anything and is shown as it is."""
    console.err.print(f"[bold red]{label}[/]", end=" ")
    console.err.print(text, markup=False, highlight=False)
    _leave(status)


def _message(error: Exception) -> str:
    """The text as it was written; ``str`` of a KeyError would quote it."""
    return str(error.args[0]) if error.args else type(error).__name__


def _end_interrupted() -> None:
    console.err.print("Interrupted. What was answered is kept; run again to go on.")
    _leave(INTERRUPTED)


def _leave(status: int) -> NoReturn:
    """Ends at once: worker threads may still wait for answers that nobody wants any more."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
