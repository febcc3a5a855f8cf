"""The terminal's error stream: bars and log lines share it, or a line would tear a live bar.

What is printed is shown as it is: names of domains, paths and reasons are other people's text, in
which rich would otherwise read ``[/red]`` as an order. Style comes as `rich.text.Text` or
``style=``.
"""

from rich.console import Console

TERMINAL = Console(stderr=True, markup=False, emoji=False)
