"""Every screen of the service: page, API viewer and report, light and dark, wide and on a phone.

``python -m tests.screens`` photographs those of a store's release for the documentation, with a
headless Chromium; `tests/tasks/serving/test_screens.py` opens the same ones and looks for faults.
"""

import argparse
import base64
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.serving.app import create_app
from tasks.serving.recommender import Recommender
from tests.photographs import Tab, browser, tab, wait_until
from tests.tasks.serving.server_thread import running_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
WIDE, PHONE = (1280, 900), (390, 844)
QUALITY = 72


@dataclass(frozen=True)
class Screen:
    """``address`` is relative to the service, with ``{user}`` in it for somebody's id."""

    name: str
    address: str
    shows: str
    act: Callable[[Tab], None] = lambda _: None
    size: tuple[int, int] = WIDE
    scheme: str = "light"


def settled(page: Tab) -> None:
    """Waits until the page of recommendations has its answer."""
    quiet = "document.getElementById('lists')?.getAttribute('aria-busy') === 'false'"
    wait_until(lambda: page.run(quiet), "the answer does not come")


def _user(page: Tab) -> None:
    page.wait_for("newest first")
    settled(page)


def _detail(page: Tab) -> None:
    _user(page)
    page.run("document.querySelector('#lists > :last-child .open').click()")
    page.wait_for("Why it has rank")
    page.wait_for("Similarity:")


def _edited(page: Tab) -> None:
    _user(page)
    page.run("document.querySelector('#lists .add').click()")
    page.wait_for("changed. Best first")
    settled(page)


def _route(page: Tab) -> None:
    page.run("document.querySelector('.route').open = true")
    page.run("document.querySelector('.route button[type=submit]').click()")
    page.wait_for("200 OK")


USER, REPORT = "#user={user}", "How to read this"
SCREENS = (
    Screen("page-start", "", "most popular items", settled),
    Screen("page", USER, "User {user}", _user),
    Screen("page-detail", USER, "User {user}", _detail),
    Screen("page-edited", USER, "User {user}", _edited),
    Screen("page-dark", USER, "User {user}", _user, scheme="dark"),
    Screen("page-detail-dark", USER, "User {user}", _detail, scheme="dark"),
    Screen("page-phone", USER, "User {user}", _user, PHONE),
    Screen("page-phone-dark", USER, "User {user}", _user, PHONE, "dark"),
    Screen("api", "docs", "POST", _route),
    Screen("api-dark", "docs", "POST", _route, scheme="dark"),
    Screen("api-phone", "docs", "POST", _route, PHONE),
    Screen("report", "report", REPORT),
    Screen("report-dark", "report", REPORT, scheme="dark"),
    Screen("report-phone", "report", REPORT, size=PHONE),
    Screen("report-phone-dark", "report", REPORT, size=PHONE, scheme="dark"),
)


@contextmanager
def opened(devtools: str, url: str, screen: Screen, user: str) -> Iterator[Tab]:
    """Gives the tab of a screen as soon as it shows what it should."""
    with tab(devtools, "about:blank") as page:
        width, height = screen.size
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        page.ask("Emulation.setDeviceMetricsOverride", size)
        media = [{"name": "prefers-color-scheme", "value": screen.scheme}]
        still = [*media, {"name": "prefers-reduced-motion", "value": "reduce"}]
        page.ask("Emulation.setEmulatedMedia", {"features": still})  # pyright: ignore
        page.ask("Page.navigate", {"url": f"{url}/{screen.address.format(user=user)}"})
        page.wait_for(screen.shows.format(user=user))
        screen.act(page)
        yield page


def photograph(page: Tab, picture: Path) -> None:
    """Writes what the window shows, as WebP."""
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    taken = page.ask("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(base64.b64decode(taken["data"]))


def main() -> None:
    """Photographs all screens of a release."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--store", default="artifacts/data", help="Where the release is.")
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    parser.add_argument("--user", help="Whose; one of a single domain by default.")
    asked = parser.parse_args()
    if CHROMIUM is None:
        parser.error("no Chromium is installed")
    recommender = Recommender.load(asked.store)
    alone = [user for name in recommender.catalogue.domains for user in recommender.users_of(name)]
    user = asked.user or max(
        alone or recommender.user_ids, key=lambda u: bool(recommender.profile(u))
    )
    with (
        tempfile.TemporaryDirectory() as profile,
        running_server(create_app(recommender)) as url,
        browser(CHROMIUM, Path(profile), "--no-proxy-server") as devtools,
    ):
        for screen in SCREENS:
            with opened(devtools, url, screen, user) as page:
                photograph(page, asked.folder / f"{screen.name}.webp")
            print(asked.folder / f"{screen.name}.webp")


if __name__ == "__main__":
    main()
