"""Other people's text is shown on a terminal, and cannot act there."""

import io
import logging

import pytest
from rich.console import Group, RenderableType
from rich.logging import RichHandler
from rich.panel import Panel
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from tasks.frame.plain_console import PlainConsole

ACTING = {
    "clears the screen": "\x1b[2J",
    "names the window": "\x1b]0;mine\x07",
    "writes to the clipboard": "\x1b]52;c;bWluZQ==\x07",
    "is a control sequence of eight bits": "\x9b2J",
    "goes back over the line": "served\rheld",
    "rubs out": "held\b\b\b\bgood",
    "turns the direction": "invoice\u202egpj.exe",
    "isolates a direction": "\u2066a\u2069",
}
FORBIDDEN = set("\x1b\x07\x9b\r\b\u202e\u2066\u2069")


def printed(renderable: RenderableType) -> str:
    console = PlainConsole()
    console.file = io.StringIO()
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize("text", ACTING.values(), ids=ACTING)
def test_a_text_cannot_act_wherever_it_is_shown(text: str) -> None:
    table = Table("of", title=text)
    table.add_row(text)
    for shown in (text, Text(text), Panel(text), table, Group(text, Panel(table))):
        assert not FORBIDDEN & set(printed(shown))


def test_a_character_that_would_act_is_replaced_where_all_can_see_it() -> None:
    assert printed("a\x1bb") == "a\N{REPLACEMENT CHARACTER}b\n"


@pytest.mark.parametrize("text", ACTING.values(), ids=ACTING)
def test_a_text_cannot_act_from_a_log_line_or_a_bar(text: str) -> None:
    console = PlainConsole()
    console.file = file = io.StringIO()
    line = logging.LogRecord("llm4cdsr", logging.INFO, "", 0, "%s", (text,), None)
    RichHandler(console=console, show_path=False).emit(line)
    with Progress(console=console, disable=False) as bars:
        bars.add_task(text, total=1)
    assert not FORBIDDEN & set(file.getvalue())


def test_lines_tabs_and_every_script_stay() -> None:
    text = "Ένα\ndva — 三, ארבע, خمسة 👍🏽"
    assert printed(text) == f"{text}\n"


def test_orders_of_rich_are_text() -> None:
    assert printed("[red]a[/red] :bomb: [link=http://x]b[/link]") == (
        "[red]a[/red] :bomb: [link=http://x]b[/link]\n"
    )
