"""HTTP requests to one URL, with key, proxy and redirects within the origin; without retries."""

import asyncio

import httpx2
from pydantic_core import to_json

from artifacts.ledger.answers import Role
from tasks.llm.client.failures.fault_kinds import Fault, FaultKind, HttpReply
from tasks.llm.settings.llm_config import EndpointSpec
from tasks.llm.settings.urls import address, key_headers, shown_url
from tasks.system.certificates import is_distrust, trusted
from tasks.system.machine_errors import is_lack
from tasks.system.proxies import proxy_for

MOST_REDIRECTS = 3
MOST_BYTES = 512 * 2**20
"""Maximum bytes of one response; a thousand vectors of the widest model as lists take a tenth."""

MOST_CHAT_BYTES = 32 * 2**20
"""Maximum bytes of one answer to a chat prompt: many are read at a time."""

WHOLE = 3
"""A request may take this many times the timeout, which limits each silence of the server: an
answer that trickles for ever must end."""

_PLAIN = frozenset({"", "identity"})
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_OTHER_PROTOCOL = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")

REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Transport:
    """Connections to one URL. Use on one event loop only. ``most_bytes``: of one response.

    Raises:
        UnusableProxyError: a proxy variable applies to the URL and cannot be used.
    """

    def __init__(
        self, url: str | None, key: str, timeout_seconds: float, most_bytes: int = MOST_BYTES
    ) -> None:
        self._url = url
        proxy = proxy_for(address(url, ""))
        self._http = httpx2.AsyncHTTPTransport(
            # Unlimited here; the caller limits concurrency.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            proxy=None if proxy is None else httpx2.Proxy(proxy),
            verify=trusted(),
        )
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "Content-Type": "application/json",
            "User-Agent": "llm4cdsr",
            **key_headers(url, key),
        }
        self._extensions = {"timeout": httpx2.Timeout(timeout_seconds).as_dict()}
        self._longest = WHOLE * timeout_seconds
        self._most_bytes = most_bytes
        self._addresses: dict[str, tuple[httpx2.URL, httpx2.Headers]] = {}

    async def post(self, route: str, body: object) -> HttpReply | Fault:
        """Returns the response to a JSON body, or the fault.

        Raises:
            httpx2.TransportError: this process lacks files or memory to connect; no server is down.
        """
        content = to_json(body)
        try:
            async with asyncio.timeout(self._longest):
                return await self._followed(route, content)
        except TimeoutError:
            return Fault(FaultKind.TIMEOUT, f"no complete answer within {self._longest:.0f} s")
        except httpx2.DecodingError as error:
            return Fault(FaultKind.BAD_ANSWER, f"malformed answer: {_said(error)}")
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            return Fault(FaultKind.NO_API, _said(error))
        except httpx2.TransportError as error:
            if is_lack(error):
                raise
            return Fault(_kind_of(error), _said(error))

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._http.aclose()

    async def _followed(self, route: str, content: bytes) -> HttpReply | Fault:
        """Follows redirects with method and body; later requests use the new URL."""
        if route not in self._addresses:
            self._remember(route, httpx2.URL(address(self._url, route)))
        for _ in range(MOST_REDIRECTS):
            url, headers = self._addresses[route]
            request = httpx2.Request(
                "POST", url, headers=headers, content=content, extensions=self._extensions
            )
            response = await self._http.handle_async_request(request)
            try:
                location = response.headers.get("location")
                if response.status_code not in REDIRECTS or location is None:
                    return await _read(response, self._most_bytes)
            finally:
                await response.aclose()
            target = url.join(location)
            if not is_same_origin(url, target):
                words = f"it redirects to {shown_url(str(target))}, another server, which does not"
                advice = "receive the key; set that URL if it is correct"
                return Fault(FaultKind.NO_API, f"HTTP {response.status_code}: {words} {advice}")
            self._remember(route, target)
        return Fault(FaultKind.NO_API, f"it redirects more than {MOST_REDIRECTS} times")

    def _remember(self, route: str, url: httpx2.URL) -> None:
        headers = httpx2.Headers({"Host": url.netloc.decode("ascii"), **self._headers})
        self._addresses[route] = url, headers


def transport_to(url: str | None, key: str, spec: EndpointSpec) -> Transport:
    """Returns the connections of an endpoint to one of its URLs, as `Transport`."""
    most_bytes = MOST_CHAT_BYTES if spec.role is Role.CHAT else MOST_BYTES
    return Transport(url, key, spec.timeout_seconds, most_bytes)


async def _read(response: httpx2.Response, most_bytes: int) -> HttpReply | Fault:
    encoding = response.headers.get("content-encoding", "")
    packed = [name for part in encoding.split(",") if (name := part.strip().lower()) not in _PLAIN]
    # Of several, each multiplies the size of the next by a thousand.
    if len(packed) > 1 or not _ENCODINGS.issuperset(packed):
        words = f"the answer is compressed by {encoding!r}, and the request accepts gzip only"
        return Fault(FaultKind.BAD_ANSWER, words, may_pass=False, of_all=True)
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > most_bytes:
            return Fault(FaultKind.BAD_ANSWER, f"an answer of more than {most_bytes >> 20} MiB")
        parts.append(part)
    headers = response.headers
    retry_after = headers.get("retry-after")
    if milliseconds := headers.get("retry-after-ms"):
        retry_after = _seconds(milliseconds) or retry_after
    return HttpReply(
        response.status_code, b"".join(parts), headers.get("content-type", ""), retry_after
    )


def _seconds(milliseconds: str) -> str | None:
    try:
        return str(float(milliseconds) / 1000)
    except ValueError:
        return None


def is_same_origin(url: httpx2.URL, target: httpx2.URL) -> bool:
    """Returns whether a redirect stays within the origin; http to https on the default ports of one
    host is included."""
    if url.host != target.host:
        return False
    if (url.scheme, url.port) == (target.scheme, target.port):
        return True
    is_upgrade = (url.scheme, target.scheme) == ("http", "https")
    return is_upgrade and url.port is None and target.port is None


def _kind_of(error: httpx2.TransportError) -> FaultKind:
    if is_distrust(error):
        return FaultKind.CERTIFICATE
    if any(sign in str(error) for sign in _OTHER_PROTOCOL):
        return FaultKind.NO_API
    match error:
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError():
            return FaultKind.UNREACHABLE
        case httpx2.TimeoutException():
            return FaultKind.TIMEOUT
        case _:
            return FaultKind.CUT


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
