"""Proxy variables (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) of the environment.

Libraries fail for any unparsable variable. Here it matters only for addresses that it applies to;
loopback is never proxied.
"""

import importlib.util
import ipaddress
import os
from collections.abc import Iterator, MutableMapping
from urllib.parse import SplitResult, urlsplit

SCHEMES = ("http", "https", "all")
LOOPBACK = "localhost,127.0.0.1,::1"

_SOCKS = frozenset({"socks5", "socks5h"})


class UnusableProxyError(ValueError):
    """A proxy variable that applies to an address is unusable."""


def proxy_for(url: str, environment: MutableMapping[str, str] = os.environ) -> str | None:
    """Returns the URL of the proxy for an address, None for a direct connection.

    Raises:
        UnusableProxyError: its variable is malformed or of an unsupported kind.
    """
    target = urlsplit(url)
    if _is_spared(target, environment):
        return None
    for scheme in (target.scheme, "all"):
        name, value = _variable(scheme, environment)
        if not value:
            continue
        if fault := _fault(value):
            raise UnusableProxyError(
                f"{name}={_shown(value)} is set and {fault}; correct it (http://HOST:PORT), or "
                f"add {target.hostname} to NO_PROXY"
            )
        return value if "://" in value else f"http://{value}"
    return None


def tame_proxy_variables(environment: MutableMapping[str, str] = os.environ) -> None:
    """Hides unparsable variables from libraries, which read lower-case names first.

    Upper-case variables are unchanged, for `proxy_for` here and in child processes.
    """
    is_proxied = False
    for scheme in SCHEMES:
        _, value = _variable(scheme, environment)
        if value and _fault(value):
            environment[f"{scheme.upper()}_PROXY"] = value
            environment[f"{scheme}_proxy"] = ""
        is_proxied = is_proxied or bool(value)
    spared = list(_spared_entries(environment))
    if not is_proxied and not spared:
        return
    environment["NO_PROXY"] = ",".join(spared) or LOOPBACK
    parsed = [entry for entry in spared if _is_parsed_by_libraries(entry)]
    environment["no_proxy"] = ",".join(dict.fromkeys((*parsed, *LOOPBACK.split(","))))


def is_loopback(host: str | None) -> bool:
    """Returns whether a host is a loopback name or address."""
    if not host:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _variable(scheme: str, environment: MutableMapping[str, str]) -> tuple[str, str]:
    """Returns a variable's name and value; non-empty lower-case variables take precedence."""
    small, capital = f"{scheme}_proxy", f"{scheme.upper()}_PROXY"
    name = small if environment.get(small) else capital
    return name, environment.get(name, "")


def _fault(value: str) -> str | None:
    """Returns the fault of a proxy's URL, None if it is usable."""
    if value != value.strip() or any(quote in value for quote in "\"'"):
        return "holds spaces or quotation marks"
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        port = parts.port
    except ValueError:
        return "is not a URL"
    if not parts.hostname or port == 0:
        return "names no host"
    if parts.scheme in _SOCKS:
        is_there = importlib.util.find_spec("socksio") is not None
        return None if is_there else "needs the package socksio: .venv/bin/pip install socksio"
    return None if parts.scheme in ("http", "https") else f"has the unknown scheme {parts.scheme}"


def _shown(value: str) -> str:
    """Returns the URL without credentials."""
    scheme, separator, rest = value.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _spared_entries(environment: MutableMapping[str, str]) -> Iterator[str]:
    """Returns the entries of both variables."""
    said = f"{environment.get('no_proxy', '')},{environment.get('NO_PROXY', '')}"
    yield from dict.fromkeys(said.replace(",", " ").split())


def _is_spared(target: SplitResult, environment: MutableMapping[str, str]) -> bool:
    host = (target.hostname or "").rstrip(".")
    if is_loopback(host):
        return True
    port = target.port or (443 if target.scheme == "https" else 80)
    return any(_matches(entry.lower(), host, port) for entry in _spared_entries(environment))


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    entry = entry.rpartition("://")[2]
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
        return ipaddress.ip_address(host) in network
    except ValueError:
        pass  # A name, an address with a port, or a host that is a name.
    name, separator, wanted = entry.rpartition(":")
    if separator and wanted.isdigit() and (name.endswith("]") or ":" not in name):
        if int(wanted) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").removeprefix(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))


def _is_parsed_by_libraries(entry: str) -> bool:
    """Returns whether httpx can parse an entry; it fails for networks and brackets with colons."""
    if "://" in entry or "[" in entry or "%" in entry:
        return False
    return ":" not in entry or ("/" not in entry and _is_address(entry)) or _has_port(entry)


def _is_address(entry: str) -> bool:
    try:
        ipaddress.ip_address(entry)
    except ValueError:
        return False
    return True


def _has_port(entry: str) -> bool:
    name, _, port = entry.rpartition(":")
    return ":" not in name and port.isdigit()
