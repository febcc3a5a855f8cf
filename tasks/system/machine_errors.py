"""Error numbers of the operating system in errors of any library, and lack of its resources."""

import builtins
import errno
import re
from collections.abc import Iterator

GPU_MEMORY, UNFINISHED = -1, -2
"""Not error numbers of the operating system."""

LACKS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""Files, memory and threads that this process cannot get; trying again soon does not help."""

FAULTS = {
    GPU_MEMORY: "the memory of the GPU ran out",
    UNFINISHED: "a file could not be written to its end",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file became larger than this user may write",
    errno.EROFS: "the file system is mounted read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files on this machine",
    errno.EAGAIN: "no new thread or process can be started",
    errno.ENOMEM: "memory ran out",
    errno.EADDRINUSE: "the port is taken",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EIO: "the disk reports an error",
}
"""Names of the machine's faults in messages."""

# Rust's libraries (polars, safetensors, tokenizers) name the error number in their message.
_RUST = re.compile(r"\(os error (\d+)\)|Os \{ code: (\d+)")
_ERRNO = re.compile(r"\[Errno (\d+)\]")
_LIBRARIES = frozenset({"OperationalError", "OutOfMemoryError", "ComputeError", "SafetensorError"})
"""Classes of SQLite, PyTorch, polars and safetensors."""

_SAID = {
    "cuda out of memory": GPU_MEMORY,
    "no space left on device": errno.ENOSPC,
    "inline_container.cc": UNFINISHED,  # PyTorch's message for a file that cannot be written.
    "file write failed": UNFINISHED,
    " requested and ": UNFINISHED,  # NumPy's: "9 requested and 4 written".
    "database or disk is full": errno.ENOSPC,
    "disk quota exceeded": errno.EDQUOT,
    "file too large": errno.EFBIG,
    "read-only file system": errno.EROFS,
    "attempt to write a readonly database": errno.EROFS,
    "too many open files": errno.EMFILE,
    "can't allocate memory": errno.ENOMEM,
    "cannot allocate memory": errno.ENOMEM,
    "out of memory": errno.ENOMEM,
    "can't start new thread": errno.EAGAIN,
    "resource temporarily unavailable": errno.EAGAIN,
}
"""Messages of C and C++ libraries (SQLite, PyTorch, Arrow) without an error number."""


def number_of(error: BaseException) -> int | None:
    """Returns the error number of one error, None where it is not of the machine."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    said = str(error)
    if found := _RUST.search(said):
        return int(found[1] or found[2])
    if isinstance(error, (ValueError, LookupError, TypeError)):
        return None  # Their messages quote input, which could match by chance.
    return next((number for words, number in _SAID.items() if words in said.lower()), None)


def fault_in(line: str) -> str | None:
    """Returns the name of the machine's fault in an error's line ``CLASS: MESSAGE``; None without
    one, or if messages of the class quote input."""
    kind, _, said = line.partition(": ")
    known = getattr(builtins, kind, None)
    if isinstance(known, type) and issubclass(known, MemoryError):
        return FAULTS[errno.ENOMEM]
    if kind not in _LIBRARIES and not (
        isinstance(known, type) and issubclass(known, (OSError, RuntimeError))
    ):
        return None
    found = _ERRNO.search(said)
    number = int(found[1]) if found else number_of(RuntimeError(said))
    return None if number is None else FAULTS.get(number)


def is_lack(error: BaseException) -> bool:
    """Returns whether an error, or what caused it, is one of `LACKS`."""
    return any(number_of(each) in LACKS for each in chain_of(error))


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and what caused it, each once."""
    met: set[int] = set()
    while error is not None and id(error) not in met:
        met.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
