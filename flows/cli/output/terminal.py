"""Consoles of commands: results to ``out``, progress and messages to ``err``."""

import logging

from rich.logging import RichHandler

from tasks.frame.plain_console import PlainConsole
from tasks.frame.shown_logs import hide_credentials_in_logs
from tasks.frame.stderr_console import TERMINAL

out = PlainConsole()
err = TERMINAL


def show_logs(*, verbose: bool) -> None:
    """Shows the product's log lines; with ``verbose`` also warnings of libraries."""
    hide_credentials_in_logs()
    handler = RichHandler(console=err, show_path=False, show_level=False, log_time_format="%X")
    logger = logging.getLogger("llm4cdsr")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if verbose:
        logging.getLogger().addHandler(handler)
