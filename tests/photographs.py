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
from pathlib import Path
from urllib.parse import quote

import httpx
from pydantic import JsonValue
from websockets.sync.client import connect
from websockets.sync.connection import Connection

PATIENCE_SECONDS = 180
LOOKS_TO_SETTLE = 10
LOOK_SECONDS = 0.5
"""Diagrams move into place after the words are there; a page that never rests is taken as is."""


@contextmanager
def browser(chromium: str, profile: Path) -> Iterator[str]:
    """Runs Chromium with a profile of its own; gives the address of its DevTools."""
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    place = ["--window-size=1280,950", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [*command, *place], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        ready = profile / "DevToolsActivePort"
        _until(lambda: ready.exists() and "\n" in ready.read_text(), "Chromium did not start")
        yield f"http://127.0.0.1:{ready.read_text().splitlines()[0]}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def photograph(devtools: str, url: str, words: str, picture: Path) -> None:
    """Opens ``url``, waits until it shows ``words`` and stands still, and writes a PNG."""
    opened = (
        httpx.put(f"{devtools}/json/new?{quote(url, safe='')}", timeout=60)
        .raise_for_status()
        .json()
    )
    with connect(opened["webSocketDebuggerUrl"], max_size=None) as page:
        ask = _questions(page)
        text = {"expression": "document.body ? document.body.innerText : ''"}
        _until(
            lambda: words in ask("Runtime.evaluate", text)["result"]["value"],
            f"{url} does not show {words!r}",
        )
        seen = ""
        for _ in range(LOOKS_TO_SETTLE):
            before, seen = seen, ask("Page.captureScreenshot", {})["data"]
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
        return told["result"]

    return ask


def _until(condition: Callable[[], bool], fault: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, fault
        time.sleep(0.3)
