"""Refusal of query parameters that a route does not have."""

from fastapi import Request
from fastapi.exceptions import RequestValidationError


def refuse_unknown_query(request: Request) -> None:
    """Raises RequestValidationError, with the known names, for a parameter that would be ignored.

    Routes without parameters accept any: probes and caches add their own.
    """
    route = request.scope["route"]
    known = [each.alias for each in route.dependant.query_params]
    unknown = [name for name in request.query_params if name not in known]
    if known and unknown:
        text = f"Unknown parameter; this route has {', '.join(known)}"
        raise RequestValidationError([{"loc": ("query", name), "msg": text} for name in unknown])
