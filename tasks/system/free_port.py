"""A port of this machine that is still free when a server, a minute later, listens on it.

The kernel hands ports of its ephemeral range to every connection that anybody opens. A server that
loads a model before it binds would lose such a port now and then; below that range nobody takes
one who does not ask for it by number.
"""

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
LOWEST, HIGHEST = 20_000, 32_767
TRIES = 100

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """Returns a port that nothing on this machine's loopback listens on."""
    highest = min(HIGHEST, _first_ephemeral() - 1)
    if highest >= LOWEST:
        # Not from a seed: two runs that start together must not try the same ports.
        chance = random.SystemRandom()
        for _ in range(TRIES):
            port = chance.randint(LOWEST, highest)
            if _bound(port) is not None:
                return port
    port = _bound(0)
    if port is None:
        raise OSError(f"no free port on {HOST}: something holds them all")
    return port


def _first_ephemeral() -> int:
    return int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 0


def _bound(port: int) -> int | None:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return None
        return int(probe.getsockname()[1])
