"""The page in a real browser: shelves, what an edit moves, reasons, undo, links; by keyboard too.

Photographs of its screens are written into ``.ci/output`` (ignored by git).
"""

import base64
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from artifacts.store import Store
from tasks.serving.app import create_app
from tasks.serving.recommender import Recommender
from tests.photographs import Tab, browser, tab, wait_until
from tests.tasks.serving.server_thread import running_server
from tests.tasks.serving.small_release import small_release

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
PHOTOGRAPHS = Path(__file__).parents[3] / ".ci" / "output"
WIDTHS = (390, 1024, 1600)
_OPENS = "[...document.querySelectorAll('#lists .open')]"

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    store = Store(tmp_path_factory.mktemp("page") / "store")
    small_release(store)
    return Recommender.load(store)


@pytest.fixture(scope="module")
def url(recommender: Recommender) -> Iterator[str]:
    with running_server(create_app(recommender)) as found:
        yield found


@pytest.fixture(scope="module")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with browser(CHROMIUM or "", tmp_path_factory.mktemp("chrome"), "--no-proxy-server") as found:
        yield found


@pytest.fixture
def page(devtools: str, url: str) -> Iterator[Tab]:
    with tab(devtools, f"{url}/#user=ada") as opened:
        opened.wait_for("User ada: 5 events")
        settled(opened)
        yield opened


def settled(page: Tab) -> None:
    quiet = "document.getElementById('lists')?.getAttribute('aria-busy') === 'false'"
    wait_until(lambda: page.run(quiet), "the answer does not come")


def shelves(page: Tab) -> list[list[str]]:
    script = """[...document.querySelectorAll('#lists .shelf')].map(
        (shelf) => [...shelf.querySelectorAll('.title')].map((title) => title.textContent))"""
    found = page.run(script)
    assert isinstance(found, list)
    return found  # pyright: ignore[reportReturnType]


def key(page: Tab, name: str, code: int, modifiers: int = 0) -> None:
    for kind in ("keyDown", "keyUp"):
        text = {"text": "\r"} if name == "Enter" and kind == "keyDown" else {}
        page.ask(
            "Input.dispatchKeyEvent",
            {
                "type": kind,
                "key": name,
                "code": name,
                "windowsVirtualKeyCode": code,
                "modifiers": modifiers,
                **text,
            },
        )


@in_a_browser
def test_every_domain_has_a_shelf_of_the_recommenders_items(
    page: Tab, recommender: Recommender
) -> None:
    wanted = recommender.recommend_users(["ada"])
    for shelf, (_, rows) in zip(
        shelves(page), wanted.group_by("domain", maintain_order=True), strict=True
    ):
        named = rows.select("title", "item_id").iter_rows()
        assert shelf == [title or f"(no title: {item})" for title, item in named]


@in_a_browser
def test_an_edit_says_what_moved_and_undo_takes_it_back(page: Tab) -> None:
    before, address = shelves(page), page.run("location.hash")
    page.run("document.querySelector('#lists .add').click()")
    page.wait_for("User ada, changed: 6 events")
    page.wait_for("changed. Best first")
    settled(page)
    assert page.run("document.querySelectorAll('#lists .moved').length")
    page.run("document.getElementById('undo').focus()")
    key(page, "z", 90, modifiers=2)
    page.wait_for("User ada: 5 events")
    settled(page)
    assert shelves(page) == before
    assert page.run("location.hash") == address
    assert page.run("document.getElementById('undo').hidden") is True
    assert page.run("document.activeElement.id") == "history-title"


@in_a_browser
def test_a_link_shows_an_edited_history_again_and_the_way_back_to_the_user(
    page: Tab, devtools: str
) -> None:
    page.run("document.querySelector('#history .remove').click()")
    page.wait_for("User ada, changed: 4 events")
    settled(page)
    edited, address = shelves(page), str(page.run("location.href"))
    with tab(devtools, address) as again:
        again.wait_for("User ada, changed: 4 events")
        settled(again)
        assert shelves(again) == edited
        again.run("document.getElementById('back').click()")
        again.wait_for("User ada: 5 events")


@in_a_browser
def test_an_item_opens_by_keyboard_with_reasons_and_similar_items_of_every_domain(
    page: Tab, recommender: Recommender
) -> None:
    page.run(f"{_OPENS}.find((card) => card.textContent.includes('Running')).focus()")
    key(page, "Enter", 13)
    page.wait_for("Why it has rank")
    for domain in recommender.catalogue.domains:
        page.wait_for(f"Similar items: {domain}")
    effects = page.run("document.querySelectorAll('.effects li').length")
    assert isinstance(effects, (int, float))
    assert effects > 0
    key(page, "Escape", 27)
    wait_until(lambda: page.run("document.getElementById('detail').open") is False, "stays open")
    assert page.run("document.activeElement.className") == "open"  # Focus is back where it was.


@in_a_browser
def test_an_item_without_text_opens_without_similar_items(page: Tab) -> None:
    page.run(f"{_OPENS}.find((card) => card.textContent.includes('b4')).click()")
    page.wait_for("Similarity: none, because the item has no text.")


@in_a_browser
def test_long_words_of_an_item_leave_its_card_as_wide_as_the_others(page: Tab) -> None:
    page.run(
        """for (const kind of ['title', 'more', 'tag']) {
          const long = document.createElement('span');
          long.className = kind;
          long.textContent = 'Gartenwerkzeuge '.repeat(12) + 'x'.repeat(90);
          document.querySelector('#lists .open').append(long);
        }"""
    )
    widths = page.run(
        "[...document.querySelectorAll('#lists .card')].map((each) => each.offsetWidth)"
    )
    assert isinstance(widths, list)
    assert len(widths) > 1
    assert len(set(map(str, widths))) == 1


@in_a_browser
def test_results_of_a_search_move_nothing_and_escape_closes_them(page: Tab) -> None:
    height = "document.getElementById('past').offsetHeight"
    shown = "!!document.querySelector('#item-found button')?.checkVisibility()"
    before = page.run(height)
    page.run("document.getElementById('item-search').focus()")
    page.ask("Input.insertText", {"text": "cofee"})
    wait_until(lambda: page.run(shown), "the misspelt word is not found")
    assert page.run(height) == before
    key(page, "Escape", 27)
    wait_until(lambda: not page.run(shown), "the results stay open")
    assert page.run("document.activeElement.id") == "item-search"


@in_a_browser
def test_a_domain_that_is_new_to_a_user_is_named_above_the_lists_and_reached_there(
    page: Tab, recommender: Recommender
) -> None:
    domains = recommender.catalogue.domains
    user, old = next((users[0], each) for each in domains if (users := recommender.users_of(each)))
    page.run(f"location.hash = 'user={user}'; location.reload()")
    page.wait_for("new to this user")
    settled(page)
    named = page.run("[...document.querySelectorAll('#jump button')].map((e) => e.textContent)")
    assert named == [each if each == old else f"{each} new to this user" for each in domains]
    page.run("document.querySelector('#jump button:last-child').click()")
    assert page.run("document.activeElement.getAttribute('aria-labelledby')") == (
        f"shelf-{len(domains) - 1}"
    )


@in_a_browser
@pytest.mark.parametrize("lost", ['["gear", "nothing"]', "null", "3"])
def test_what_a_link_names_and_the_release_lacks_is_told(page: Tab, lost: str) -> None:
    page.run(f"location.hash = 'items=' + encodeURIComponent('[{lost}]'); location.reload()")
    page.wait_for("1 item of the link is not in this release")


@in_a_browser
def test_an_item_of_the_history_is_not_explained_as_recommended(page: Tab) -> None:
    page.run("document.querySelector('#history .open').click()")
    page.wait_for("This item is in the history")
    assert page.run("document.querySelectorAll('.effects').length") == 0


@in_a_browser
def test_users_are_found_by_the_domain_they_are_active_in(
    page: Tab, recommender: Recommender
) -> None:
    domain = next(each for each in recommender.catalogue.domains if recommender.users_of(each))
    page.run(
        "[...document.querySelectorAll('#only button')]"
        f".find((each) => each.textContent === '{domain}').click()"
    )
    only = recommender.users_of(domain)
    shown = "document.getElementById('history-title').textContent"
    wait_until(lambda: any(f"User {user}:" in str(page.run(shown)) for user in only), "nobody")
    places = "[...document.querySelectorAll('#history .place')].map((each) => each.textContent)"
    domains = page.run(places)
    assert isinstance(domains, list)
    assert set(map(str, domains)) == {domain}


@in_a_browser
def test_everything_that_can_be_pressed_or_filled_has_a_name(page: Tab) -> None:
    page.run(f"{_OPENS}.find((card) => card.textContent.includes('Running')).click()")
    page.wait_for("Similar items")
    nameless = page.run(
        """[...document.querySelectorAll('button, input, select, a')].filter((each) =>
            !(each.getAttribute('aria-label') || each.textContent.trim() ||
              (each.labels && each.labels.length))).map((each) => each.outerHTML)"""
    )
    assert nameless == []


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_phone_tablet_and_desk_and_is_photographed(page: Tab, scheme: str) -> None:
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    page.ask("Emulation.setEmulatedMedia", {"features": media})  # pyright: ignore
    PHOTOGRAPHS.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        page.ask("Emulation.setDeviceMetricsOverride", size)
        wide = page.run("document.documentElement.scrollWidth")
        assert isinstance(wide, (int, float))
        assert wide <= width
        taken = page.ask("Page.captureScreenshot", {"captureBeyondViewport": True})["data"]
        (PHOTOGRAPHS / f"page-{scheme}-{width}.png").write_bytes(base64.b64decode(taken))


def test_an_effect_is_the_difference_that_the_items_removal_makes(
    recommender: Recommender, url: str
) -> None:
    history = [("gear", "g1"), ("books", "b1"), ("gear", "g2")]
    named = [{"domain": domain, "item_id": item} for domain, item in history]
    asked = {"history": named, "item": {"domain": "books", "item_id": "b2"}}
    answer = httpx.post(f"{url}/effects", json=asked).json()
    (whole,) = recommender.score(history, [("books", "b2")]).tolist()
    assert len(answer["effects"]) == 3
    for effect in answer["effects"]:
        left = [each for each in history if each != (effect["domain"], effect["item_id"])]
        (without,) = recommender.score(left, [("books", "b2")]).tolist()
        assert effect["effect"] == pytest.approx(whole - without, abs=1e-4)
    sizes = [effect["effect"] for effect in answer["effects"]]
    assert sizes == sorted(sizes, reverse=True)


def test_the_rank_of_an_effect_is_that_of_the_list(recommender: Recommender, url: str) -> None:
    history = [("gear", "g1"), ("gear", "g2")]
    for domain, item, rank in (
        recommender.recommend(history, k=9).select("domain", "item_id", "rank").iter_rows()
    ):
        found = recommender.effects(history, (domain, item))
        assert found.rank == rank
        assert np.isfinite(found.effects).all()


def test_an_effect_of_nothing_or_on_an_unknown_item_is_refused(url: str) -> None:
    item = {"domain": "books", "item_id": "b2"}
    assert httpx.post(f"{url}/effects", json={"history": [], "item": item}).status_code == 422
    unknown = {"history": [item], "item": {"domain": "books", "item_id": "nothing"}}
    assert httpx.post(f"{url}/effects", json=unknown).status_code == 404
    strange = {"history": [{"item_id": "nothing"}], "item": item}
    assert httpx.post(f"{url}/effects", json=strange).json()["effects"] == []


def test_users_of_one_domain_have_events_nowhere_else(recommender: Recommender, url: str) -> None:
    for domain in recommender.catalogue.domains:
        users = httpx.get(f"{url}/users", params={"only": domain}).json()["users"]
        assert users == recommender.users_of(domain)
        for user in users:
            assert {each for each, _ in recommender.history(user)} == {domain}
    assert httpx.get(f"{url}/users?only=nothing").status_code == 404


def test_the_report_of_the_release_is_served_and_its_lack_told(
    recommender: Recommender, url: str, tmp_path: Path
) -> None:
    assert httpx.get(f"{url}/report").status_code == 404
    written = tmp_path / "report.html"
    written.write_text("<p>the report</p>")
    facts = recommender.facts
    try:
        recommender.facts = replace(facts, report=written)
        answer = httpx.get(f"{url}/report")
    finally:
        recommender.facts = facts
    assert answer.text == "<p>the report</p>"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
