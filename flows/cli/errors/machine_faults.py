"""Advice on errors of the machine: disk, memory, permissions."""

import errno
import os
import re

from tasks.system.machine_errors import FAULTS, GPU_MEMORY, UNFINISHED, chain_of, number_of

KEPT = "Finished work is kept: repeat the command to resume"
OUT_OF_SPACE = (
    "free some space, or name another place by --store (LLM4CDSR_STORE) or LLM4CDSR_CACHE"
)

ADVICE = {
    GPU_MEMORY: "use smaller micro-batches (--set train.accumulate=4), or --device cpu",
    UNFINISHED: f"check whether the disk is full (`df -h`): {OUT_OF_SPACE}",
    errno.ENOSPC: OUT_OF_SPACE,
    errno.EDQUOT: OUT_OF_SPACE,
    errno.EFBIG: "raise `ulimit -f`",
    errno.EROFS: "remount it, or name another --store",
    errno.EACCES: "check owner and mode of the path, and of its folders",
    errno.EPERM: "check owner and mode of the path, and of its folders",
    errno.EMFILE: "raise `ulimit -n`",
    errno.ENFILE: "end other programs",
    errno.EAGAIN: "end other programs, or raise `ulimit -u` and the memory limit",
    errno.ENOMEM: "end other programs, or use fewer users (--max-users)",
    errno.EADDRINUSE: (
        "another program listens there (`ss -ltnp` names it): use another --port, or end it"
    ),
    errno.EADDRNOTAVAIL: (
        "use another --host; 127.0.0.1 is this machine only, 0.0.0.0 all of its addresses"
    ),
    errno.EIO: "see `dmesg`, and replace the disk if it fails",
}
"""Remedies of `FAULTS`."""

ADDRESSES = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
"""Raised before any work."""

_ADDRESS = re.compile(r"bind on address \('(.+?)', (\d+)")


def machine_fault(error: BaseException) -> str | None:
    """Returns cause and remedy of a machine fault in an error or its chain of causes."""
    for each in chain_of(error):
        number = number_of(each)
        if number is not None and number in ADVICE:
            where = _place_of(each)
            kept = "" if number in ADDRESSES else f". {KEPT}"
            said = f"{FAULTS[number]}: {where}" if where else FAULTS[number]
            return f"{said}; {ADVICE[number]}{kept}"
    return None


def _place_of(error: BaseException) -> str:
    if not isinstance(error, OSError):
        return ""
    if found := _ADDRESS.search(str(error)):
        return f"{found[1]}:{found[2]}"
    return os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
