"""Advice on errors of the machine: disk, memory, permissions."""

import errno
import os
import re

from tasks.system.machine_errors import GPU_MEMORY, UNFINISHED, chain_of, number_of

KEPT = "Everything finished so far is kept: run the same command again to go on"
OUT_OF_SPACE = (
    "free some space, or give another place with --store (LLM4CDSR_STORE) or LLM4CDSR_CACHE"
)

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
    errno.EAGAIN: (
        "no new thread or process can be started",
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


def machine_fault(error: BaseException) -> str | None:
    """Returns cause and remedy of a machine fault in an error or its chain of causes."""
    for each in chain_of(error):
        number = number_of(each)
        if number in ADVICE:
            what, advice = ADVICE[number]
            where = _place_of(each)
            kept = "" if number in ADDRESSES else f". {KEPT}"
            return f"{what}{f': {where}' if where else ''}; {advice}{kept}"
    return None


def _place_of(error: BaseException) -> str:
    if not isinstance(error, OSError):
        return ""
    if found := _ADDRESS.search(str(error)):
        return f"{found[1]}:{found[2]}"
    return os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
