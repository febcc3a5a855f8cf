"""Faults of an open page: those that axe-core finds, and those of the Tab key."""

from importlib.resources import files
from itertools import pairwise

from tests.photographs import Tab

_TAB = 9
_MOST_STOPS = 400
_FAULTS = """(async () => {
  const found = await axe.run(document, {resultTypes: ['violations']});
  return found.violations.flatMap((rule) => rule.nodes.map((node) =>
    `${rule.impact}: ${rule.id}: ${node.target.join(' ')}: ${node.failureSummary}`));
})()"""
_STOPS = """[...document.querySelectorAll(
    'a[href], button, input, select, textarea, summary, [tabindex="0"]')].filter((each) =>
  !each.disabled && each.checkVisibility({visibilityProperty: true}) &&
  (!document.querySelector('dialog[open]') || each.closest('dialog')))"""
_OUTLINED = """(() => {
  const style = getComputedStyle(document.activeElement);
  return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
})()"""


def faults(page: Tab) -> list[str]:
    """Returns every violation of axe-core's rules, with the element."""
    page.run(files("axe_core_python").joinpath("axe.min.js").read_text("utf-8") + ";undefined")
    found = page.run(_FAULTS)
    assert isinstance(found, list)
    return [str(each) for each in found]


def press(page: Tab, key: str, code: int, modifiers: int = 0) -> None:
    """Presses and releases a key; `modifiers`: 2 is Ctrl, 8 is Shift."""
    text = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
    for kind in ("keyDown", "keyUp"):
        named = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
        sent = {**named, "modifiers": modifiers, **(text if kind == "keyDown" else {})}
        page.ask("Input.dispatchKeyEvent", sent)


def keyboard_faults(page: Tab) -> list[str]:
    """Returns what the Tab key does not reach, reaches in another order than it stands in, or
    reaches without showing it."""
    page.run(f"window.stops = {_STOPS}; document.activeElement.blur(); window.scrollTo(0, 0)")
    count = page.run("window.stops.length")
    assert isinstance(count, int)
    assert 0 < count < _MOST_STOPS
    met, unseen = [], []
    for _ in range(count + 2):  # In a dialog the focus passes the browser's own bar.
        press(page, "Tab", _TAB)
        place = page.run("window.stops.indexOf(document.activeElement)")
        if isinstance(place, int) and place >= 0 and place not in met:
            met.append(place)
            if not page.run(_OUTLINED):
                unseen.append(place)
    lost = [f"not reached: {_html(page, place)}" for place in range(count) if place not in met]
    turned = [
        f"reached out of order: {_html(page, after)}"
        for before, after in pairwise(met)
        if after < before and after != 0
    ]
    return [*lost, *turned, *(f"focus is not shown: {_html(page, place)}" for place in unseen)]


def _html(page: Tab, place: int) -> str:
    return str(page.run(f"window.stops[{place}].outerHTML.slice(0, 160)"))
