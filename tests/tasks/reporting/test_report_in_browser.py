"""The report in a real browser: it fits every width, its map changes colours, nothing is loaded.

Photographs are written into ``.ci/output`` (ignored by git).
"""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.reporting.page import render_report
from tests.photographs import Tab, browser, tab, wait_until
from tests.tasks.reporting.whole_report import full

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
PHOTOGRAPHS = Path(__file__).parents[3] / ".ci" / "output"
WIDTHS = (390, 1024, 1600)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the report in")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    folder = tmp_path_factory.mktemp("report")
    (folder / "report.html").write_text(render_report(full()), "utf-8")
    with (
        browser(CHROMIUM or "", folder / "chrome", "--no-proxy-server") as devtools,
        tab(devtools, (folder / "report.html").as_uri()) as opened,
    ):
        opened.wait_for("How to read this")
        yield opened


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_is_never_wider_than_the_screen(page: Tab, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    page.ask("Emulation.setDeviceMetricsOverride", size)
    wide = page.run("document.documentElement.scrollWidth")
    assert isinstance(wide, (int, float))
    assert wide <= width
    PHOTOGRAPHS.mkdir(parents=True, exist_ok=True)
    taken = page.ask("Page.captureScreenshot", {})["data"]
    (PHOTOGRAPHS / f"report-{width}.png").write_bytes(base64.b64decode(taken))


def test_the_map_changes_between_colours_of_domains_and_clusters(page: Tab) -> None:
    colours = "[...document.querySelectorAll('.map circle')].map((e) => getComputedStyle(e).fill)"
    shown = "[...document.querySelectorAll('.map .legend')].map((e) => getComputedStyle(e).display)"
    before = page.run(colours)
    assert page.run(shown) == ["flex", "none"]
    page.run("document.querySelector('[data-colouring=cluster]').click()")
    assert page.run(shown) == ["none", "flex"]
    pressed = "[...document.querySelectorAll('.switch button')].map((e) => e.ariaPressed)"
    assert page.run(pressed) == ["false", "true"]
    page.run("document.querySelector('[data-colouring=domain]').click()")
    assert page.run(colours) == before


def test_the_contents_mark_the_section_that_is_read(page: Tab) -> None:
    page.run("document.getElementById('guards').scrollIntoView()")
    current = "document.querySelector('nav [aria-current]')?.hash"
    wait_until(lambda: page.run(current) in ("#guards", "#recommendations"), "nothing is marked")


def test_nothing_is_loaded_and_the_policy_blocks_nothing_of_the_pages_own(page: Tab) -> None:
    assert page.run("performance.getEntriesByType('resource').length") == 0
    assert page.run("getComputedStyle(document.querySelector('.tiles')).display") == "flex"
