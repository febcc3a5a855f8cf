"""Consoles of commands: results to ``out``, progress and messages to ``err``."""

import logging
from copy import copy
from datetime import datetime
from typing import cast

from rich.console import ConsoleRenderable, RenderableType
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text
from rich.traceback import Traceback

from tasks.frame.plain_console import TERMINAL, PlainConsole
from tasks.frame.shown_logs import hide_credentials_in_logs

out = PlainConsole()
err = TERMINAL


class LogLines(RichHandler):
    """Shows log records, without the traceback of an error that the command reports itself.

    At level DEBUG the traceback is kept. In files and pipes a record is one line with date
    and level.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and not logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
            from flows.cli.errors.endings import ending_of  # Imported on failure only.

            if (error := record.exc_info[1]) is not None and ending_of(error):
                record = copy(record)
                record.exc_info = record.exc_text = None
        super().emit(record)

    def render(
        self,
        *,
        record: logging.LogRecord,
        traceback: Traceback | None,
        message_renderable: ConsoleRenderable,
    ) -> ConsoleRenderable:
        """Returns the shown part of a record."""
        console = cast(PlainConsole, self.console)
        if console.is_on_terminal or not isinstance(message_renderable, Text):
            return super().render(
                record=record, traceback=traceback, message_renderable=message_renderable
            )
        made = datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "seconds")
        return Text(f"{made} {record.levelname} ").append_text(message_renderable)


def say(line: RenderableType, trouble: str = "") -> None:
    """Prints a line that may be longer than the terminal is wide, for example with a path;
    ``trouble`` is printed before it in bold red."""
    if trouble:
        out.print(trouble, style="bold red", end=" ")
    out.print(line, soft_wrap=True, highlight=False)


def table(title: str | None, *columns: str) -> Table:
    """Returns a table with these columns; one whose name begins with ``>`` is aligned right."""
    made = Table(title=title, title_justify="left")
    for name in columns:
        made.add_column(name.removeprefix(">"), justify="right" if name[:1] == ">" else "left")
    return made


def show_logs(*, verbose: bool) -> None:
    """Shows the product's log lines; with ``verbose`` also warnings of libraries."""
    hide_credentials_in_logs()
    lines = err
    if not err.is_on_terminal:
        lines = PlainConsole(stderr=True)
        lines.soft_wrap = True
    handler = LogLines(console=lines, show_path=False, show_level=False, log_time_format="%X")
    logger = logging.getLogger("llm4cdsr")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if verbose:
        logging.getLogger().addHandler(handler)
