"""Free ports for servers that start slowly.

Ports in the kernel's ephemeral range may be taken by any connection before a slow server binds.
Ports below that range are taken only explicitly.
"""

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
LOWEST, HIGHEST = 20_000, 32_767
TRIES = 100

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """Returns a port without a listener on the loopback interface."""
    ephemeral = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 0
    highest = min(HIGHEST, ephemeral - 1)
    if highest >= LOWEST:
        # Unseeded, so that concurrent runs try different ports.
        chance = random.SystemRandom()
        for _ in range(TRIES):
            port = chance.randint(LOWEST, highest)
            if _bound(port) is not None:
                return port
    port = _bound(0)
    if port is None:
        raise OSError(f"all ports on {HOST} are in use")
    return port


def _bound(port: int) -> int | None:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return None
        return int(probe.getsockname()[1])
