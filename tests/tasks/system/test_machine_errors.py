"""A line of an error names the machine's fault, in whatever words a library has for it."""

import pytest

from tasks.system.machine_errors import fault_in


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("OSError: 30720 requested and 9090 written", "a file could not be written to its end"),
        ("OSError: [Errno 28] No space left on device: '/a'", "the disk is full"),
        ("OperationalError: database or disk is full", "the disk is full"),
        ("ComputeError: No space left on device (os error 28)", "the disk is full"),
        ("PermissionError: [Errno 13] Permission denied: '/a'", "permission denied"),
        ("RuntimeError: CUDA out of memory. Tried to allocate", "the memory of the GPU ran out"),
        ("MemoryError: ", "memory ran out"),
        ("MemoryError", "memory ran out"),
    ],
)
def test_a_fault_of_the_machine_is_named(line: str, fault: str) -> None:
    assert fault_in(line) == fault


@pytest.mark.parametrize(
    "line",
    [
        "UnreadableDumpError: the title 'out of memory' cannot be read",
        "ValueError: 'no space left on device' is no price",
        "KeyError: 'disk quota exceeded'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/a'",
        "served from now on: nothing was served before",
        "",
    ],
)
def test_what_quotes_input_names_no_fault(line: str) -> None:
    assert fault_in(line) is None
