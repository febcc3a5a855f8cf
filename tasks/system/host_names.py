"""What a Host header names. A name that somebody else owns may resolve to this machine; an address
and `localhost` cannot be made to mean another site's page."""

import ipaddress
from urllib.parse import urlsplit

LOCALHOST = "localhost"


def host_name(host: str) -> str | None:
    """Returns the name or address of a Host header in lower case, without its port; None for what
    is no such header."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    # Origins are built from the header: nothing but a name and a port may be in it.
    return parts.hostname if parts.netloc == host and "@" not in host else None


def is_this_machine(host: str) -> bool:
    """Returns whether a Host header names the loopback interface, with whatever port."""
    name = host_name(host)
    return name == LOCALHOST or (name is not None and _is(name, loopback=True))


def is_address(host: str) -> bool:
    """Returns whether a Host header is an IP address or `localhost`, with whatever port."""
    name = host_name(host)
    return name == LOCALHOST or (name is not None and _is(name, loopback=False))


def _is(name: str, *, loopback: bool) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not loopback
