"""Progress of a stage: a bar in the terminal, a progress artifact in the Prefect UI.

A stage opens a `Progress`; its workers (shards in other threads, the trainer's callback) call
`advance` with its token. The token is unknown in other processes, whose progress is shown at the
end of a shard.
"""

import logging
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from tasks.frame.plain_console import TERMINAL
from tasks.frame.prefect_link import shown_only

UI_EVERY_SECONDS = 2.0
LOG_EVERY_SECONDS = 15.0

logger = logging.getLogger("llm4cdsr")


@dataclass
class Progress:
    """The state of one stage's bar; thread-safe."""

    label: str
    total: int
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    done: int = 0
    note: str = ""
    _artifact: uuid.UUID | None = None
    _shown_at: float = field(default_factory=time.monotonic)
    _logged_at: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, steps: int, note: str = "") -> None:
        """Adds finished steps; ``note`` replaces the text beside the bar."""
        with self._lock:
            self.done = min(self.done + steps, self.total)
            self.note = note or self.note
            _redraw(self)

    def begin_anew(self, total: int) -> None:
        """Restarts with another total, shown at the next step."""
        with self._lock:
            self.done, self.total, self.note = 0, total, ""


_open: dict[str, Progress] = {}
_bars: Bars | None = None
_bar_of: dict[str, TaskID] = {}
_guard = threading.Lock()


@contextmanager
def progress(label: str, total: int) -> Iterator[Progress]:
    """Shows progress towards ``total`` steps during the block."""
    state = Progress(label, total)
    if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
        with shown_only():
            created = create_progress_artifact(progress=0.0, description=label)
            state._artifact = created if isinstance(created, uuid.UUID) else None
    with _guard:
        _open[state.token] = state
        _show_bar(state)
    try:
        yield state
    finally:
        _update_ui(state)
        with _guard:
            del _open[state.token]
            _hide_bar(state)


def advance(token: str, steps: int, note: str = "") -> None:
    """Advances the progress of a token; no effect for tokens of other processes."""
    if state := _open.get(token):
        state.advance(steps, note)


def _redraw(state: Progress) -> None:
    now = time.monotonic()
    if _bars is not None and state.token in _bar_of:
        _bars.update(_bar_of[state.token], completed=state.done, total=state.total, note=state.note)
    elif now - state._logged_at > LOG_EVERY_SECONDS:
        state._logged_at = now
        logger.info("%s: %d of %d %s", state.label, state.done, state.total, state.note)
    if now - state._shown_at > UI_EVERY_SECONDS:
        state._shown_at = now
        _update_ui(state)


def _update_ui(state: Progress) -> None:
    if state._artifact is not None and state.total:
        with shown_only():
            update_progress_artifact(
                artifact_id=state._artifact,
                progress=100.0 * state.done / state.total,
                description=f"{state.label} {state.note}".strip(),
            )


def _show_bar(state: Progress) -> None:
    global _bars
    if not sys.stderr.isatty():
        return
    if _bars is None:
        _bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("[dim]elapsed"),
            TimeElapsedColumn(),
            TextColumn("[dim]left, about"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=TERMINAL,
            transient=True,
        )
        _bars.start()
    _bar_of[state.token] = _bars.add_task(state.label, total=state.total, note="")


def _hide_bar(state: Progress) -> None:
    global _bars
    if _bars is None or state.token not in _bar_of:
        return
    _bars.remove_task(_bar_of.pop(state.token))
    if not _bar_of:
        _bars.stop()
        _bars = None
