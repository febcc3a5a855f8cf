"""Photographs of pages of a web application, taken when a page shows what it should show.

Headless Chromium, asked over its DevTools protocol. A page that never shows its words is an
error, so no photograph is of an empty page.
"""

import base64
import itertools
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import httpx
from pydantic import JsonValue
from websockets.sync.client import connect
from websockets.sync.connection import Connection

Found = TypeVar("Found")

PATIENCE_SECONDS = 180
LOOKS_TO_SETTLE = 10
LOOK_SECONDS = 0.5
"""Diagrams move into place after the words are there; a page that never rests is taken as is."""


@contextmanager
def browser(chromium: str, profile: Path, *switches: str) -> Iterator[str]:
    """Runs Chromium with a profile of its own; gives the address of its DevTools."""
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    place = ["--window-size=1280,950", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [*command, *place, *switches], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        ready = profile / "DevToolsActivePort"
        wait_until(lambda: ready.exists() and "\n" in ready.read_text(), "Chromium did not start")
        yield f"http://127.0.0.1:{ready.read_text().splitlines()[0]}"
    finally:
        process.terminate()
        process.wait(timeout=60)


@dataclass(frozen=True)
class Tab:
    """A page that is open in the browser."""

    url: str
    ask: Callable[[str, Mapping[str, JsonValue]], dict]
    """Calls a method of the DevTools protocol."""

    def run(self, script: str) -> JsonValue:
        """Runs a script in the page; returns its value, that of a promise when it is settled."""
        given = {"expression": script, "awaitPromise": True, "returnByValue": True}
        told = self.ask("Runtime.evaluate", given)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait_for(self, words: str) -> None:
        text = "document.body ? document.body.innerText : ''"
        wait_until(lambda: words in str(self.run(text)), f"{self.url} does not show {words!r}")


class NavigatedError(RuntimeError):
    """The browser did not carry out a command: its page is being replaced by the next one."""


@contextmanager
def tab(devtools: str, url: str) -> Iterator[Tab]:
    """Opens a page in a tab of its own."""
    opened = (
        httpx.put(f"{devtools}/json/new?{quote(url, safe='')}", timeout=60)
        .raise_for_status()
        .json()
    )
    with connect(opened["webSocketDebuggerUrl"], max_size=None) as page:
        yield Tab(url, _questions(page))


def log_in(devtools: str, ui: str, credential: str) -> None:
    """Types the credential into the login form of the Prefect UI, as an operator does."""
    with tab(devtools, ui) as page:
        wait_until(lambda: page.run("!!document.querySelector('input[type=password]')"), "no form")
        page.run("document.querySelector('input[type=password]').focus()")
        page.ask("Input.insertText", {"text": credential})
        page.run("document.querySelector('button[type=submit]').click()")
        page.wait_for("Logout")


def photograph(devtools: str, url: str, words: str, picture: Path) -> None:
    """Opens ``url``, waits until it shows ``words`` and stands still, and writes a PNG."""
    with tab(devtools, url) as page:
        page.wait_for(words)
        seen = ""
        for _ in range(LOOKS_TO_SETTLE):
            before, seen = seen, page.ask("Page.captureScreenshot", {})["data"]
            if seen == before:
                break
            time.sleep(LOOK_SECONDS)
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(base64.b64decode(seen))


def _questions(page: Connection) -> Callable[[str, Mapping[str, JsonValue]], dict]:
    numbers = itertools.count(1)

    def ask(method: str, given: Mapping[str, JsonValue]) -> dict:
        number = next(numbers)
        page.send(json.dumps({"id": number, "method": method, "params": dict(given)}))
        while (told := json.loads(page.recv(timeout=PATIENCE_SECONDS))).get("id") != number:
            """An event of the page."""
        if "error" in told:
            raise NavigatedError(told["error"])
        return told["result"]

    return ask


def wait_until(condition: Callable[[], Found], fault: str) -> Found:
    """Returns what a condition gives as soon as it is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if found := condition():
                return found
        except NavigatedError as error:
            fault = f"{fault} ({error})"
        assert time.monotonic() < deadline, fault
        time.sleep(0.3)
