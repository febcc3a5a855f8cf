"""A log line of an error that ends the command with a message has no traceback."""

import errno
import logging
import re
import sys
from contextlib import redirect_stdout
from io import StringIO

import pytest

from flows.cli.output import terminal
from flows.cli.output.terminal import LogLines
from tasks.frame.plain_console import PlainConsole

FULL = OSError(errno.ENOSPC, "No space left on device")


def writes_to(text: StringIO) -> PlainConsole:
    with redirect_stdout(text):  # The width depends on the output at the time.
        console = PlainConsole()
    console.file = text
    return console


def logged(error: Exception, level: int) -> str:
    text = StringIO()
    logger = logging.Logger("of a library", level)
    logging.Logger.manager.loggerDict[logger.name] = logger
    logger.addHandler(LogLines(console=writes_to(text)))
    try:
        raise error
    except type(error):
        logger.exception("Encountered exception during execution")
    finally:
        del logging.Logger.manager.loggerDict[logger.name]
    return text.getvalue()


@pytest.mark.parametrize(
    ("error", "level", "is_traced"),
    [
        (FULL, logging.INFO, False),
        (FULL, logging.DEBUG, True),
        (AssertionError("a fault of the program"), logging.INFO, True),
    ],
)
def test_only_what_nobody_expects_has_a_traceback(
    error: Exception, level: int, is_traced: bool
) -> None:
    said = logged(error, level)
    assert "Encountered exception" in said
    assert ("Traceback" in said) is is_traced


def test_a_record_in_a_file_is_one_line_with_date_and_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # readline sets it for all processes that its own starts, such as test workers.
    monkeypatch.delenv("COLUMNS", raising=False)
    text = StringIO()
    handler = LogLines(console=writes_to(text))
    words = " ".join(f"word{number}" for number in range(100))
    handler.emit(logging.LogRecord("x", logging.WARNING, __file__, 1, "%s [b]", (words,), None))
    line = rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d WARNING {words} \[b\]\n"
    assert re.fullmatch(line, text.getvalue())


@pytest.mark.parametrize(
    ("variables", "lines"),
    [
        ({}, 1),
        ({"COLUMNS": "40"}, 3),
        ({"COLUMNS": "0"}, 1),
        ({"COLUMNS": "wide"}, 1),
        ({"COLUMNS": "²"}, 1),
        ({"FORCE_COLOR": "1"}, 1),
        ({"TTY_COMPATIBLE": "1"}, 1),
    ],
)
def test_a_pipe_has_no_width_unless_told(
    variables: dict[str, str], lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    text = StringIO()
    monkeypatch.setattr(sys, "stdout", text)
    PlainConsole().print("word " * 20)
    assert text.getvalue().strip().count("\n") + 1 == lines


@pytest.mark.parametrize("variable", ["COLUMNS", "FORCE_COLOR"])
def test_a_long_record_in_a_pipe_is_one_line_whatever_is_set(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = StringIO()
    monkeypatch.setenv(variable, "40")
    monkeypatch.setattr(sys, "stderr", text)
    logger = logging.getLogger("llm4cdsr")
    monkeypatch.setattr(logger, "handlers", [])
    for kept in ("propagate", "level"):
        monkeypatch.setattr(logger, kept, getattr(logger, kept))
    monkeypatch.setattr(terminal, "err", PlainConsole(stderr=True))
    terminal.show_logs(verbose=False)
    words = " ".join(f"word{number}" for number in range(3_000))
    logger.warning(words)
    assert text.getvalue().endswith(f"WARNING {words}\n")
    assert text.getvalue().count("\n") == 1
