"""No page of another site reads the service, and nobody without the token where one is set."""

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from artifacts.store import Store
from artifacts.user_error import InvalidSettingError
from tasks.serving.app import create_app
from tasks.serving.recommender import Recommender
from tasks.serving.service.gate import (
    HOSTS_VARIABLE,
    TOKEN_VARIABLE,
    hosts_of_environment,
    token_of_environment,
)
from tasks.serving.service.routes import PAGE_FILES
from tests.photographs import browser, tab, wait_until
from tests.tasks.serving.server_thread import running_server
from tests.tasks.serving.small_release import small_release

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "0123456789abcdef-and-more"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def recommender(store: Store) -> Recommender:
    small_release(store)
    return Recommender.load(store)


@contextmanager
def served(
    recommender: Recommender, hosts: tuple[str, ...] = (), token: str | None = None
) -> Iterator[httpx.Client]:
    app = create_app(recommender, hosts=hosts, token=token)
    with running_server(app) as url, httpx.Client(base_url=url) as client:
        yield client


def test_only_addresses_localhost_and_allowed_names_are_served(recommender: Recommender) -> None:
    with served(recommender, hosts=("recs.shop.example",)) as client:
        for host in ("localhost", "LOCALHOST:99", "10.1.2.3:80", "[::1]:8080", "recs.shop.example"):
            assert client.get("/users", headers={"Host": host}).status_code == 200, host
        for host in (
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "sub.recs.shop.example",
            "recs.shop.example@evil.example",
            "evil.example/localhost",
            "127.0.0.1:x",
            "",
        ):
            for path in ("/", "/users", "/users/ada", "/health", "/metrics", "/nothing"):
                answer = client.get(path, headers={"Host": host})
                assert answer.status_code == 421, (host, path)
                assert "ada" not in answer.text


def test_two_host_headers_are_refused(recommender: Recommender) -> None:
    with served(recommender) as client:
        address = (client.base_url.host, client.base_url.port or 80)
        with socket.create_connection(address, 30) as sent:
            sent.sendall(b"GET /users HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
            assert sent.recv(65_536).split()[1] in (b"400", b"421")


def test_without_the_token_only_the_pages_and_health_answer(recommender: Recommender) -> None:
    with served(recommender, token=TOKEN) as client:
        described = client.get("/openapi.json", headers=SHOWN).json()["paths"]
        paths = {
            (method.upper(), path.replace("{user_id}", "ada"))
            for path, methods in described.items()
            for method in methods
        }
        extra = {("GET", path) for path in ("/metrics", "/openapi.json", "/report", "/nothing")}
        assert len(paths) >= 8
        for method, path in paths | extra:
            if path == "/health":
                continue
            answer = client.request(method, path, json={})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
        for path in (*PAGE_FILES, "/health"):
            assert client.get(path).status_code == 200
        assert client.get("/users/ada", headers=SHOWN).status_code == 200


@pytest.mark.parametrize(
    "shown",
    [
        TOKEN,
        f"bearer {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        "Bearer None",
        f"Basic {TOKEN}",
        b"Bearer \xff\xfe",
    ],
)
def test_a_wrong_token_is_refused(recommender: Recommender, shown: str | bytes) -> None:
    with served(recommender, token=TOKEN) as client:
        assert client.get("/users", headers={"Authorization": shown}).status_code == 401  # pyright: ignore[reportArgumentType]


def test_a_token_that_can_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for weak in ("short", "0123456789abcde", "ä" * 20, "sixteen chars \t ok x"):
        monkeypatch.setenv(TOKEN_VARIABLE, weak)
        with pytest.raises(InvalidSettingError, match="at least 16") as raised:
            token_of_environment()
        assert weak not in str(raised.value)
    monkeypatch.setenv(TOKEN_VARIABLE, f" {TOKEN} ")
    assert token_of_environment() == TOKEN
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    assert token_of_environment() is None


def test_allowed_hosts_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOSTS_VARIABLE, " Recs.Shop.example, other ,")
    assert hosts_of_environment() == ["recs.shop.example", "other"]


ATTACK = """(async () => {
    const told = {};
    const note = async (name, work) => {
        try { told[name] = await work(); } catch { told[name] = 'failed'; }
    };
    for (const root of ROOTS) for (const path of ['/users', '/users/ada', '/health']) {
        const url = root + path;
        await note('get ' + url, async () => (await fetch(url)).text());
        await note('opaque ' + url, async () => (await fetch(url, {mode: 'no-cors'})).text());
        await note('preflight ' + url, async () =>
            (await fetch(url, {headers: {Authorization: 'Bearer x'}})).text());
        await note('post ' + url, async () => (await fetch(root + '/recommendations',
            {method: 'POST', body: '{"history": []}'})).text());
        await note('script ' + url, () => new Promise((done, fail) => {
            const script = document.createElement('script');
            script.onload = () => done('loaded'); script.onerror = fail; script.src = url;
            document.body.append(script);
        }));
        await note('frame ' + url, async () => {
            const frame = document.createElement('iframe');
            frame.src = url;
            await new Promise(done => { frame.onload = done; document.body.append(frame); });
            return frame.contentDocument.body.innerText;
        });
    }
    return told;
})()"""


class ShopPage(BaseHTTPRequestHandler):
    """A page of another site."""

    def do_GET(self) -> None:
        page = b"<!DOCTYPE html><body>a shop</body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Tests need no log of it."""


@contextmanager
def foreign_site() -> Iterator[int]:
    site = ThreadingHTTPServer(("127.0.0.1", 0), ShopPage)
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    try:
        yield site.server_port
    finally:
        site.shutdown()
        thread.join(20)
        site.server_close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: no real page of another origin")
def test_a_browser_on_another_site_reads_nothing(recommender: Recommender, tmp_path: Path) -> None:
    switches = ["--host-resolver-rules=MAP shop.example 127.0.0.1"]
    with (
        served(recommender) as client,
        foreign_site() as site,
        browser(CHROMIUM or "", tmp_path / "chrome", *switches) as devtools,
    ):
        port = client.base_url.port
        rebound = f"http://shop.example:{port}"
        roots = [f"http://127.0.0.1:{port}", f"http://localhost:{port}", rebound]
        with tab(devtools, f"http://shop.example:{site}/") as page:
            page.wait_for("a shop")
            told = page.run(ATTACK.replace("ROOTS", json.dumps(roots)))
        # A name of the attacker's that now resolves here makes the attacker's page our origin.
        with tab(devtools, f"{rebound}/users") as page:
            page.wait_for("this host is not served")
    assert isinstance(told, dict)
    assert len(told) == 6 * 3 * len(roots)
    read = {name: text for name, text in told.items() if text not in ("failed", "")}
    assert read == {}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
def test_the_page_asks_for_the_token_and_then_works(
    recommender: Recommender, tmp_path: Path
) -> None:
    with (
        served(recommender, token=TOKEN) as client,
        browser(CHROMIUM or "", tmp_path / "chrome") as devtools,
        tab(devtools, str(client.base_url)) as page,
    ):
        page.wait_for("Token of this service")
        assert "Trail Running Vest" not in str(page.run("document.body.innerText"))
        for token, told in (
            ("wrong", "This token is not accepted."),
            (TOKEN, "Trail Running Vest"),
        ):
            assert page.run("document.querySelector('main').hidden")
            page.run("document.querySelector('#token').focus()")
            page.ask("Input.insertText", {"text": token})
            page.run("document.querySelector('#login button').click()")
            page.wait_for(told)
        wait_until(lambda: page.run("document.querySelector('#login').hidden"), "still asks")
        page.run("URL.createObjectURL = (blob) => { window.saved = blob; return 'blob:none'; }")
        page.run("[...document.querySelectorAll('nav a')].at(-1).click()")
        wait_until(lambda: page.run("!!window.saved"), "the metrics are not fetched")
        assert "llm4cdsr_release_created" in str(page.run("window.saved.text()"))
        assert page.run("location.pathname") == "/"
