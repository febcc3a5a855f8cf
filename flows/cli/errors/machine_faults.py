"""Errors of the machine (disk, memory, permissions) from any library, with cause and remedy."""

import errno
import os
import re
from collections.abc import Iterator

KEPT = "Everything finished so far is kept: run the same command again to go on"
OUT_OF_SPACE = (
    "free some space, or give another place with --store (LLM4CDSR_STORE) or LLM4CDSR_CACHE"
)
GPU_MEMORY, UNFINISHED, THREADS = -1, -2, -3
"""Not error numbers of the operating system."""

ADVICE = {
    GPU_MEMORY: (
        "the memory of the GPU ran out",
        "take smaller steps (--set train.accumulate=4), or --device cpu",
    ),
    UNFINISHED: (
        "a file could not be written to its end",
        f"look whether the disk is full (`df -h`): {OUT_OF_SPACE}",
    ),
    errno.ENOSPC: ("the disk is full", OUT_OF_SPACE),
    errno.EDQUOT: ("the disk quota is used up", OUT_OF_SPACE),
    errno.EFBIG: ("a file became larger than this user may write", "raise `ulimit -f`"),
    errno.EROFS: ("the file system is mounted read-only", "remount it, or give another --store"),
    errno.EACCES: ("permission denied", "check owner and mode of the path, and of its folders"),
    errno.EPERM: ("permission denied", "check owner and mode of the path, and of its folders"),
    errno.EMFILE: ("too many open files", "raise `ulimit -n`"),
    errno.ENFILE: ("too many open files on this machine", "end other programs"),
    THREADS: (
        "no new thread can be started",
        "end other programs, or raise `ulimit -u` and the memory limit",
    ),
    errno.ENOMEM: ("memory ran out", "end other programs, or read fewer users (--max-users)"),
    errno.EADDRINUSE: (
        "the port is taken",
        "another program listens there (`ss -ltnp` names it): give another --port, or end it",
    ),
    errno.EADDRNOTAVAIL: (
        "this machine has no such address",
        "give another --host; 127.0.0.1 is this machine alone, 0.0.0.0 all of its addresses",
    ),
    errno.EIO: ("the disk reports an error", "look at `dmesg`, and replace it if it fails"),
}

ADDRESSES = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
"""Raised before any work."""

_ADDRESS = re.compile(r"bind on address \('(.+?)', (\d+)")

# Rust's libraries (polars, safetensors, tokenizers) name the error number in their message.
_RUST = re.compile(r"\(os error (\d+)\)")
_SAID = {
    "cuda out of memory": GPU_MEMORY,
    "no space left on device": errno.ENOSPC,
    "inline_container.cc": UNFINISHED,  # PyTorch's message for a file that cannot be written.
    "file write failed": UNFINISHED,
    "requested and 0 written": UNFINISHED,
    "database or disk is full": errno.ENOSPC,
    "disk quota exceeded": errno.EDQUOT,
    "file too large": errno.EFBIG,
    "read-only file system": errno.EROFS,
    "attempt to write a readonly database": errno.EROFS,
    "too many open files": errno.EMFILE,
    "can't allocate memory": errno.ENOMEM,
    "cannot allocate memory": errno.ENOMEM,
    "out of memory": errno.ENOMEM,
    "can't start new thread": THREADS,
}
"""Messages of C and C++ libraries (SQLite, PyTorch, Arrow) without an error number."""


def machine_fault(error: BaseException) -> str | None:
    """Returns cause and remedy of a machine fault in an error or its chain of causes."""
    for each in _chain(error):
        number = _number_of(each)
        if number in ADVICE:
            what, advice = ADVICE[number]
            where = _place_of(each)
            kept = "" if number in ADDRESSES else f". {KEPT}"
            return f"{what}{f': {where}' if where else ''}; {advice}{kept}"
    return None


def _number_of(error: BaseException) -> int | None:
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    said = str(error)
    if found := _RUST.search(said):
        return int(found[1])
    if isinstance(error, (ValueError, LookupError, TypeError)):
        return None  # Their messages quote input, which could match by chance.
    return next((number for words, number in _SAID.items() if words in said.lower()), None)


def _place_of(error: BaseException) -> str:
    if not isinstance(error, OSError):
        return ""
    if found := _ADDRESS.search(str(error)):
        return f"{found[1]}:{found[2]}"
    return os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    met: set[int] = set()
    while error is not None and id(error) not in met:
        met.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
