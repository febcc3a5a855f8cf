"""Every screen in a real browser: no accessibility fault, whole by keyboard, light, photographed.

Photographs and figures are written into ``.ci/output`` (ignored by git).
"""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from artifacts.store import Store
from tasks.reporting.page import render_report
from tasks.serving.app import create_app
from tasks.serving.recommender import Recommender
from tests.accessibility import faults, keyboard_faults, press
from tests.photographs import Tab, browser, wait_until
from tests.screens import CHROMIUM, SCREENS, Screen, opened, photograph, settled
from tests.tasks.reporting.whole_report import full
from tests.tasks.serving.server_thread import running_server
from tests.tasks.serving.small_release import small_release

OUTPUT = Path(__file__).parents[3] / ".ci" / "output"
MOST_BYTES = 300_000
REPORT_BYTES = 1_000_000
ENTER, ESCAPE, SPACE, DOWN, TAB = 13, 27, 32, 40, 9

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the screens in")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("screens")
    small_release(Store(folder / "store"))
    recommender = Recommender.load(folder / "store")
    (folder / "report.html").write_text(render_report(full()), "utf-8")
    recommender.facts = replace(recommender.facts, report=folder / "report.html")
    with running_server(create_app(recommender)) as found:
        yield found


@pytest.fixture(scope="module")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with browser(CHROMIUM or "", tmp_path_factory.mktemp("chrome"), "--no-proxy-server") as found:
        yield found


@pytest.fixture(params=SCREENS, ids=lambda screen: screen.name)
def screen(request: pytest.FixtureRequest) -> Screen:
    return request.param


def test_a_screen_has_no_accessibility_fault_fits_and_is_light(
    devtools: str, url: str, screen: Screen
) -> None:
    with opened(devtools, url, screen, "ada") as page:
        photograph(page, OUTPUT / f"{screen.name}.webp")
        assert faults(page) == []
        wide = page.run("document.documentElement.scrollWidth")
        assert isinstance(wide, int)
        assert wide <= screen.size[0]
        figures = page.run(
            """(() => {
              const all = performance.getEntries().filter((each) => 'transferSize' in each);
              const [page] = performance.getEntriesByType('navigation');
              return {bytes: all.reduce((sum, each) => sum + each.transferSize, 0),
                      interactive_ms: Math.round(page.domInteractive),
                      hosts: [...new Set(all.map((each) => new URL(each.name).host))]};
            })()"""
        )
    assert isinstance(figures, dict)
    assert figures["hosts"] == [url.removeprefix("http://")]
    assert isinstance(figures["bytes"], int)
    assert 0 < figures["bytes"] < (REPORT_BYTES if screen.address == "report" else MOST_BYTES)
    (OUTPUT / f"{screen.name}.json").write_text(json.dumps(figures), "utf-8")


@pytest.mark.parametrize(
    "name", ["page-start", "page", "page-detail", "page-edited", "api", "report"]
)
def test_the_tab_key_reaches_everything_in_its_order_and_shows_where_it_is(
    devtools: str, url: str, name: str
) -> None:
    (screen,) = (each for each in SCREENS if each.name == name)
    with opened(devtools, url, screen, "ada") as page:
        assert keyboard_faults(page) == []


def test_a_fault_is_found(devtools: str, url: str) -> None:
    (start,) = (each for each in SCREENS if each.name == "page-start")
    with opened(devtools, url, start, "ada") as page:
        page.run(
            """document.querySelector('main').insertAdjacentHTML('afterbegin',
                '<button tabindex="-1"></button><a href="#x">far</a>');
            document.querySelector('main > a').style.outline = 'none';
            document.querySelector('main > a').style.color = '#eee'"""
        )
        found = " ".join(faults(page))
        assert "critical: button-name" in found
        assert "serious: color-contrast" in found
        missed = keyboard_faults(page)
        assert len(missed) == 2
        assert missed[0].startswith("not reached: <button")
        assert missed[1].startswith("focus is not shown: <a")


def test_every_action_of_the_page_works_by_keyboard(devtools: str, url: str) -> None:
    (start,) = (each for each in SCREENS if each.name == "page-start")
    with opened(devtools, url, start, "ada") as page:
        _type(page, "user-search", "ada")
        page.wait_for("ada")
        wait_until(lambda: page.run("!!document.querySelector('#user-found button')"), "nobody")
        _enter(page, "#user-found button")
        page.wait_for("User ada: 5 events")
        settled(page)
        _type(page, "item-search", "coffee")
        wait_until(lambda: page.run("!!document.querySelector('#item-found button')"), "nothing")
        _enter(page, "#item-found button")
        page.wait_for("User ada, changed: 6 events")
        _enter(page, "#history .remove")
        page.wait_for("User ada, changed: 5 events")
        settled(page)  # Else the key may meet a list that is replaced.
        _enter(page, "#lists .add")
        page.wait_for("User ada, changed: 6 events")
        _enter(page, "#undo")
        page.wait_for("User ada, changed: 5 events")
        _enter(page, "#back")
        page.wait_for("User ada: 5 events")
        settled(page)
        page.run("document.getElementById('count').focus()")
        press(page, "ArrowDown", DOWN)
        assert page.run("document.getElementById('count').value") == "20"
        settled(page)
        _enter(page, "#lists .open", " ", SPACE)
        page.wait_for("Why it has rank")
        press(page, "Escape", ESCAPE)
        wait_until(lambda: page.run("!document.getElementById('detail').open"), "stays open")
        _enter(page, "#any-user")
        settled(page)
        _enter(page, "#only button")
        settled(page)
        _enter(page, "#clear")
        page.wait_for("No history yet")


LATE_USERS = """
const real = window.fetch;
window.late = 0;
window.fetch = async (...given) => {
  if (!String(given[0]).includes("users")) return real(...given);
  await new Promise((done) => setTimeout(done, 500));
  window.late += 1;
  return real(...given);
};
"""


def test_a_user_that_comes_after_a_later_action_is_not_shown(devtools: str, url: str) -> None:
    (start,) = (each for each in SCREENS if each.name == "page-start")
    with opened(devtools, url, start, "ada") as page:
        _enter(page, "#any-user")
        page.wait_for("newest first")
        settled(page)
        page.run(LATE_USERS)
        page.run("document.getElementById('any-user').click()")
        page.run("document.getElementById('clear').click()")
        page.wait_for("No history yet")
        wait_until(lambda: page.run("window.late > 0"), "nothing was asked")
        time.sleep(2)  # The user's history would be asked for and shown.
        assert page.run("document.getElementById('history-title').textContent") == "No history yet"


def test_a_route_is_tried_by_keyboard_and_says_what_came(devtools: str, url: str) -> None:
    (api,) = (each for each in SCREENS if each.name == "api")
    with opened(devtools, url, replace(api, act=lambda _: None), "ada") as page:
        for _ in range(200):
            if page.run("document.activeElement.textContent.startsWith('GET/users/{user_id}')"):
                break
            press(page, "Tab", TAB)
        press(page, "Enter", ENTER)
        wait_until(lambda: page.run("document.activeElement.parentElement.open"), "stays closed")
        page.run("document.activeElement.parentElement.querySelector('[type=submit]').focus()")
        press(page, "Enter", ENTER)
        page.wait_for("200 OK from GET /users/")


def _type(page: Tab, field: str, text: str) -> None:
    page.run(f"document.getElementById('{field}').focus()")
    page.ask("Input.insertText", {"text": text})


def _enter(page: Tab, chosen: str, key: str = "Enter", code: int = ENTER) -> None:
    page.run(f"document.querySelector('{chosen}').focus()")
    press(page, key, code)
