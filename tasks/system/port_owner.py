"""Owner of a listening port, to notice another user of the machine who took it first."""

import os
from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING = "0A"


def is_foreign(port: int) -> bool:
    """Returns whether a process of another user listens on a TCP port of this machine."""
    owners = {uid for table in TABLES if table.exists() for uid in _listeners(table, port)}
    return bool(owners - {os.getuid()})


def _listeners(table: Path, port: int) -> list[int]:
    """Returns the user ids of the sockets of a kernel's table that listen on a port."""
    rows = (line.split() for line in table.read_text().splitlines()[1:])
    return [
        int(row[7])
        for row in rows
        if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port
    ]
