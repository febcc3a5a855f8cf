"""The terminal's error stream: bars and log lines share it, or a line would tear a live bar.

Text is printed literally, because names of domains, paths and reasons may contain rich markup such
as ``[/red]``. Style comes as `rich.text.Text` or ``style=``.
"""

from rich.console import Console

TERMINAL = Console(stderr=True, markup=False, emoji=False)
