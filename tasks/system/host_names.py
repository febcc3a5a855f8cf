"""Parsing and classification of Host headers. Foreign names may resolve to this machine (DNS
rebinding); IP addresses and `localhost` are safe."""

import ipaddress
from urllib.parse import urlsplit

LOCALHOST = "localhost"


def host_name(host: str) -> str | None:
    """Returns the name or address of a Host header in lower case, without its port; None for an
    invalid header."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    # Only a name and a port are allowed, because origins are built from the header.
    return parts.hostname if parts.netloc == host and "@" not in host else None


def is_this_machine(host: str) -> bool:
    """Returns whether a Host header names the loopback interface, with any port."""
    name = host_name(host)
    return name == LOCALHOST or (name is not None and _is(name, loopback=True))


def is_address(host: str) -> bool:
    """Returns whether a Host header is an IP address or `localhost`, with any port."""
    name = host_name(host)
    return name == LOCALHOST or (name is not None and _is(name, loopback=False))


def _is(name: str, *, loopback: bool) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not loopback
