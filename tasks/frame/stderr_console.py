"""The terminal's error stream: bars and log lines share it, or a line would tear a live bar."""

from tasks.frame.plain_console import PlainConsole

TERMINAL = PlainConsole(stderr=True)
