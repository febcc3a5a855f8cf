"""A console that prints untrusted text without interpreting it.

Names of domains, titles, paths and answers of servers come from dumps and networks. Rich interprets
``[/red]`` in them as markup, and passes escape sequences on: a title could clear the screen, change
the window's title, or send input on some terminals. Marks of writing direction reorder a line.
"""

import os
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_KEPT = "\n\t"
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))
_DIRECTIONS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_UNWRAPPED = 10_000
_SHOWN = {code: "\N{REPLACEMENT CHARACTER}" for code in (*_CONTROLS, *_DIRECTIONS)}
for _character in _KEPT:
    del _SHOWN[ord(_character)]


class PlainConsole(Console):
    """A console without markup; control characters are replaced.

    Style is given as `rich.text.Text` or ``style=``. In files and pipes no line is wrapped and no
    column of a table is cut, unless the variable COLUMNS sets their width.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        columns = os.environ.get("COLUMNS", "")
        is_width = columns.isascii() and columns.isdigit() and int(columns) > 0
        # Rich would print nothing in 0 columns, and fail on digits such as "²".
        variables = {
            name: value for name, value in os.environ.items() if name != "COLUMNS" or is_width
        }
        super().__init__(stderr=stderr, markup=False, emoji=False, _environ=variables)
        if not self.is_on_terminal and not is_width:
            self.width = _UNWRAPPED

    @property
    def is_on_terminal(self) -> bool:
        """Whether the output is a terminal; `is_terminal` is also true where colours are forced."""
        return self.file.isatty()

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yields segments as `Console.render`; cursor movements of Rich are kept."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(segment.text.translate(_SHOWN), segment.style)


TERMINAL = PlainConsole(stderr=True)
