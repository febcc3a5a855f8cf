"""Nobody starts, reads or changes anything on a Prefect server without its credential, and no
page of another origin even with it."""

import json
import shutil
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from artifacts.user_error import InvalidSettingError
from flows.server.closed_app import ClosedApp, origins_in
from tasks.system.host_names import is_this_machine
from tests.photographs import browser, log_in, tab

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FOREIGN = "http://shop.example"
PREFECT_SOCKETS = [Subprotocol("prefect")]
OPEN_PATHS = {"/api/health", "/api/ready", "/ui-settings", "/openapi.json", "/docs", "/redoc"}
"""What answers without the credential, and tells nothing of this machine's runs."""


class Server(NamedTuple):
    """The session's Prefect server and its credential."""

    api: str
    credential: str

    @property
    def root(self) -> str:
        return self.api.removesuffix("/api")

    @property
    def host(self) -> str:
        return self.root.removeprefix("http://")

    @property
    def auth(self) -> tuple[str, str]:
        user, _, password = self.credential.partition(":")
        return user, password

    def flows(self) -> list[str]:
        """Names of all flows, read as the machine's own programs do."""
        answer = httpx.post(f"{self.api}/flows/filter", json={}, auth=self.auth, timeout=60)
        return sorted(flow["name"] for flow in answer.raise_for_status().json())


@pytest.fixture
def server(prefect_server: str) -> Server:
    return Server(prefect_server, PREFECT_API_AUTH_STRING.value() or "")


def test_every_path_of_the_api_wants_the_credential(server: Server) -> None:
    described = httpx.get(f"{server.root}/openapi.json", timeout=60).json()["paths"]
    assert len(described) > 100
    for path, methods in described.items():
        for method in set(methods) - {"parameters"}:
            given = httpx.request(method, f"{server.api}{path}", json={}, timeout=60)
            expected = 200 if f"/api{path}" in OPEN_PATHS else 401
            assert given.status_code == expected, (method, path, given.text)


@pytest.mark.parametrize("credential", [("llm4cdsr", ""), ("", ""), ("admin", "pass")])
def test_a_wrong_credential_is_refused(server: Server, credential: tuple[str, str]) -> None:
    given = httpx.post(f"{server.api}/flows/filter", json={}, auth=credential, timeout=60)
    assert given.status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": FOREIGN}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://{host}"}, 403),
        ({"Origin": "http://{host}.shop.example"}, 403),
        ({"Origin": "http://127.0.0.1:9"}, 403),
        ({"Host": "shop.example"}, 421),
        ({"Host": "shop.example", "Origin": FOREIGN}, 421),
        ({"Host": "127.0.0.1.shop.example"}, 421),
        ({"Host": "{host}@shop.example"}, 421),
        ({"Host": "0.0.0.0"}, 421),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "text/plain; application/json"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": ""}, 415),
    ],
)
def test_a_request_of_a_foreign_page_is_refused_even_with_the_credential(
    server: Server, headers: dict[str, str], status: int
) -> None:
    asked = {name: value.format(host=server.host) for name, value in headers.items()}
    answer = httpx.post(
        f"{server.api}/flows/",
        content=b'{"name": "planted"}',
        headers={"Content-Type": "application/json"} | asked,
        auth=server.auth,
        timeout=60,
    )
    assert answer.status_code == status, answer.text
    assert "access-control-allow-origin" not in answer.headers
    assert "planted" not in server.flows()


def test_a_post_without_a_content_type_is_refused(server: Server) -> None:
    # What `fetch` sends for a Blob without a type, which no preflight precedes.
    request = httpx.Request("POST", f"{server.api}/flows/", content=b'{"name": "planted"}')
    assert "content-type" not in request.headers
    with httpx.Client(auth=server.auth, timeout=60) as client:
        assert client.send(request).status_code == 415
    assert "planted" not in server.flows()


def test_a_preflight_of_a_foreign_page_is_allowed_nothing(server: Server) -> None:
    asked = {"Origin": FOREIGN, "Access-Control-Request-Method": "POST"}
    answer = httpx.options(f"{server.api}/flows/", headers=asked, timeout=60)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["events/in", "events/out", "logs/out"])
@pytest.mark.parametrize(
    ("name", "origin", "status"), [("127.0.0.1", FOREIGN, 403), ("shop.example", FOREIGN, 421)]
)
def test_a_websocket_of_a_foreign_page_is_refused(
    server: Server, path: str, name: str, origin: str, status: int
) -> None:
    port = int(server.host.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as to_server:
        url = f"ws://{name}:{port}/api/{path}"
        with pytest.raises(InvalidStatus) as refused:
            connect(url, sock=to_server, origin=Origin(origin), subprotocols=PREFECT_SOCKETS)
    assert refused.value.response.status_code == status


@pytest.mark.parametrize("path", ["events/in", "events/out", "logs/out"])
def test_a_websocket_without_the_credential_is_closed(server: Server, path: str) -> None:
    with connect(f"ws://{server.host}/api/{path}", subprotocols=PREFECT_SOCKETS) as opened:
        opened.send(json.dumps({"type": "auth", "token": "llm4cdsr:guessed"}))
        with pytest.raises(ConnectionClosed):
            opened.recv(timeout=60)


def test_pages_of_the_ui_cannot_be_framed(server: Server) -> None:
    page = httpx.get(server.root, follow_redirects=True, timeout=60)
    assert page.is_success
    assert page.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "127.0.0.1", "[::1]", "127.8.8.8"])
@pytest.mark.parametrize("port", ["", ":4200", ":1"])
def test_every_name_of_this_machine_is_served_on_any_port(name: str, port: str) -> None:
    assert is_this_machine(f"{name}{port}")


@pytest.mark.parametrize(
    "host",
    # The last four are other spellings that some libraries take for 127.0.0.1 or 0.0.0.0.
    """,:4200,shop.example,localhost.shop.example,localhost:x,localhost:99999,[::1,localhost/,
    localhost?,a@localhost,localhost#,127.1,2130706433,0,[::]""".replace("\n    ", "").split(","),
)
def test_no_other_name_is_served(host: str) -> None:
    assert not is_this_machine(host)


def test_further_origins_are_a_setting_of_the_machine() -> None:
    given = {"LLM4CDSR_UI_ORIGINS": " https://Ops.example, http://box:8080/ ,"}
    assert origins_in(given) == ["https://ops.example", "http://box:8080"]
    assert origins_in({}) == []


@pytest.mark.parametrize(
    "value", ["*", "ops.example", "https://", "ftp://x", "https://x/path", "null"]
)
def test_what_is_no_origin_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidSettingError, match="LLM4CDSR_UI_ORIGINS"):
        origins_in({"LLM4CDSR_UI_ORIGINS": value})


def answered(app: ClosedApp, **headers: str) -> int:
    client = TestClient(app, base_url="http://127.0.0.1:4200")
    return client.post("/", json={}, headers=headers).status_code


def test_an_origin_of_the_setting_is_served_and_no_other() -> None:
    app = ClosedApp(PlainTextResponse("here"), ["https://ops.example"])
    assert answered(app, Host="ops.example", Origin="https://ops.example") == 200
    # A proxy that passes on its own name in place of the browser's.
    assert answered(app, Host="127.0.0.1:4200", Origin="https://ops.example") == 200
    assert answered(app, Host="ops.example", Origin="https://shop.example") == 403
    assert answered(app, Host="ops.example:8080", Origin="https://ops.example") == 421
    assert answered(app, Host="shop.example", Origin="https://ops.example") == 421


@contextmanager
def foreign_page() -> Iterator[int]:
    """A page of another origin; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!DOCTYPE html><title>shop</title><p>a shop</p>")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as page:
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        try:
            yield page.server_port
        finally:
            page.shutdown()
            thread.join()


ATTACK = """(async () => {
    const told = {}, body = JSON.stringify({name: 'planted'});
    const attempt = async (name, ask) => {
        try { const given = await ask(); told[name] = given.type + ' ' + given.status; }
        catch (error) { told[name] = 'failed'; }
    };
    const auth = {'Content-Type': 'application/json', 'Authorization': 'Basic ' + CREDENTIAL};
    for (const root of ROOTS) {
        const url = root + '/api/flows/';
        await attempt('read ' + root, () => fetch(root + '/api/health'));
        await attempt('settings ' + root, () => fetch(root + '/ui-settings'));
        await attempt('json ' + root, () => fetch(url, {method: 'POST', body, headers: auth}));
        await attempt('text ' + root, () => fetch(url, {method: 'POST', body, mode: 'no-cors'}));
        await attempt('blob ' + root, () =>
            fetch(url, {method: 'POST', body: new Blob([body]), mode: 'no-cors'}));
        await attempt('cookies ' + root, () =>
            fetch(url, {method: 'POST', body, mode: 'no-cors', credentials: 'include'}));
        told['socket ' + root] = await new Promise(done => {
            const socket = new WebSocket(root.replace('http', 'ws') + '/api/events/out', 'prefect');
            socket.onopen = () => done('open');
            socket.onerror = () => done('failed');
        });
        const form = document.createElement('form');
        form.method = 'post'; form.enctype = 'text/plain'; form.action = url; form.target = 'f';
        form.innerHTML = `<input name='{"name": "planted", "x": "' value='"}'>`;
        const frame = document.createElement('iframe');
        frame.name = 'f';
        document.body.append(frame, form);
        await new Promise(done => { frame.onload = done; form.submit(); });
        let read; try { read = frame.contentDocument; } catch { read = null; }
        told['frame ' + root] = read ? 'readable' : 'failed';
        frame.remove(); form.remove();
    }
    return told;
})()"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: no real page of another origin")
def test_a_page_of_another_origin_reads_starts_and_changes_nothing(
    server: Server, tmp_path: Path
) -> None:
    port = server.host.rpartition(":")[2]
    rebound = f"http://shop.example:{port}"
    token = b64encode(server.credential.encode()).decode()
    switches = ["--host-resolver-rules=MAP shop.example 127.0.0.1"]
    before = server.flows()
    with (
        foreign_page() as page_port,
        browser(CHROMIUM or "", tmp_path / "chrome", *switches) as devtools,
    ):
        log_in(devtools, server.root, server.credential)  # The operator is logged in meanwhile.
        roots = [server.root, f"http://localhost:{port}", rebound]
        script = ATTACK.replace("ROOTS", json.dumps(roots)).replace("CREDENTIAL", f"'{token}'")
        with tab(devtools, f"http://shop.example:{page_port}/") as page:
            page.wait_for("a shop")
            told = page.run(script)
        with tab(devtools, f"{rebound}/api/health") as page:
            page.wait_for("this host is not served")
    assert isinstance(told, dict)
    assert len(told) == 8 * len(roots)
    # The browser tells a page of another origin nothing of an answer but that there was one.
    readable = {name: came for name, came in told.items() if came not in ("failed", "opaque 0")}
    assert readable == {}
    assert server.flows() == before
