"""What a benchmark runs in processes of their own, so that memory and CPU time are told apart."""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")


def in_own_process(work: Callable[Given, Made], *given: Given.args, **named: Given.kwargs) -> Made:
    """Returns what a function returns in a new process, which ends with it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *given, **named).result()


@contextmanager
def instant_server(*options: str) -> Iterator[tuple[str, int]]:
    """Gives the URL and the process of an `instant_server.py`, which ends with the block."""
    program = [sys.executable, str(Path(__file__).with_name("instant_server.py")), *options]
    serving = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    try:
        assert serving.stdout is not None
        yield serving.stdout.readline().strip(), serving.pid
    finally:
        serving.kill()
        serving.wait()
