"""The terminal's error stream: bars and log lines share it, or a line would tear a live bar."""

from rich.console import Console

TERMINAL = Console(stderr=True)
