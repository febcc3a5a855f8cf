"""Shared connections to the servers of a model for concurrent shards."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pydantic import SecretStr

from tasks.llm.client.servers.dialect import Dialect
from tasks.llm.client.servers.lanes import Servers
from tasks.llm.client.servers.rate_limits import RateLimits
from tasks.llm.settings.llm_config import EndpointSpec


@asynccontextmanager
async def open_servers(spec: EndpointSpec, key: SecretStr) -> AsyncIterator[Servers]:
    """Yields the servers of a model, shared with concurrent users."""
    name = spec.model_dump_json()
    if (shared := _open.get(name)) is None:
        known = _known.setdefault(
            name, _Known(RateLimits(spec.requests_per_minute, spec.tokens_per_minute))
        )
        shared = _open[name] = _Shared(Servers(spec, key, known.limits, known.dialect))
    shared.users += 1
    try:
        yield shared.servers
    finally:
        shared.users -= 1
        if not shared.users:
            del _open[name]
            await shared.servers.close()


@dataclass
class _Shared:
    servers: Servers
    users: int = 0


@dataclass
class _Known:
    """State that outlives connections: rate limits and dialects persist across stages."""

    limits: RateLimits
    dialect: Dialect = field(default_factory=Dialect)


_open: dict[str, _Shared] = {}
_known: dict[str, _Known] = {}


def forget() -> None:
    """Clears the state of all servers, at the end of a run."""
    _known.clear()
