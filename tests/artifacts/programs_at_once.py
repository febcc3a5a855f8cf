"""Programs that go on at the same moment."""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path


def run_at_once(commands: Iterable[Sequence[str]], folder: Path) -> list[int]:
    """Starts programs that print ``ready`` and wait for a line, sends it once all of them wait, and
    returns their exit statuses."""
    programs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
        for command in commands
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write(b"\n")
        program.stdin.flush()
    for program in programs:
        program.communicate()
    return [program.returncode for program in programs]
