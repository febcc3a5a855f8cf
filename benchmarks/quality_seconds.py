"""Draws NDCG@10 over training seconds from the tables of docs/results.md, a panel per data set with
several presets.

python benchmarks/quality_seconds.py
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, DRAWN = DOCS / "results.md", DOCS / "images" / "quality-seconds.svg"
PRESETS = ("best", "single", "large", "paper", "sasrec-mixed", "sasrec-domain", "sasrec-text")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 260, 44, 96, 28, 40
LABEL, LINE = 100, 12
"""Size of a label: labels of near marks stand below each other."""
SECONDS = (50, 3_000)
"""Ends of the logarithmic axis."""


@dataclass(frozen=True)
class Trained:
    """A preset on a data set: means over seeds."""

    model: str
    ndcg: float
    seconds: float


def read(page: str) -> dict[str, list[Trained]]:
    """Returns the presets of each data set, from the tables "Models, full ranking"."""
    found: dict[str, list[Trained]] = {}
    for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        name, _, rest = part.partition("\n")
        _, titled, table = rest.partition("### Models, full ranking")
        if not titled:
            continue
        for line in table.partition("\n### ")[0].splitlines():
            cells = [cell.strip() for cell in line.strip("| ").split("|")]
            if cells[0].removesuffix(" †") in PRESETS:
                ndcg, seconds = cells[2].split()[0], cells[-1].replace(",", "")
                found.setdefault(name, []).append(Trained(cells[0], float(ndcg), float(seconds)))
    return {name: models for name, models in found.items() if len(models) > 1}


def drawing(found: dict[str, list[Trained]]) -> str:
    """Returns the figure as SVG."""
    panels = Markup("").join(
        _panel(name, models, number * WIDTH) for number, (name, models) in enumerate(found.items())
    )
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" font-family="sans-serif"'
            ' font-size="11" fill="#777">{}</svg>\n'
        ).format(WIDTH * len(found), HEIGHT, panels)
    )


def _panel(name: str, models: list[Trained], shift: int) -> Markup:
    top = math.ceil(max(model.ndcg for model in models) * 50) / 50
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    low, high = (math.log(end) for end in SECONDS)

    def x(seconds: float) -> float:
        return LEFT + (math.log(seconds) - low) / (high - low) * (right - LEFT)

    def y(ndcg: float) -> float:
        return floor - ndcg / top * (floor - TOP)

    parts = [Markup('<text x="{}" y="16" font-weight="bold">{}</text>').format(LEFT, name)]
    for level in (0.0, top / 2, top):
        line = '<path stroke="#ccc" d="M{} {:.1f}H{}"/><text x="4" y="{:.1f}">{:.2f}</text>'
        parts.append(Markup(line).format(LEFT, y(level), right, y(level) + 4, level))
    for seconds in (100, 300, 1_000, 3_000):
        label = '<text x="{:.1f}" y="{}" text-anchor="middle">{:,}</text>'
        parts.append(Markup(label).format(x(seconds), floor + 14, seconds))
    middle = (LEFT + right) / 2
    axis = '<text x="{}" y="{}" text-anchor="middle">seconds of training; NDCG@10</text>'
    parts.append(Markup(axis).format(middle, HEIGHT - 8))
    before, label = -math.inf, 0.0
    for model in sorted(models, key=lambda each: -each.ndcg):
        colour = "#3b7dd8" if model.model.split()[0] in PRESETS[:3] else "#888"
        mark = (
            '<circle cx="{0:.1f}" cy="{1:.1f}" r="4" fill="{4}"/>'
            '<text x="{2:.1f}" y="{3:.1f}" fill="{4}">{5}</text>'
        )
        place = x(model.seconds), y(model.ndcg)
        is_near = abs(place[0] - before) < LABEL
        label = max(place[1] + 4, label + LINE) if is_near else place[1] + 4
        before = place[0]
        parts.append(Markup(mark).format(*place, place[0] + 7, label, colour, model.model))
    return Markup('<g transform="translate({})">{}</g>').format(shift, Markup("").join(parts))


def main() -> None:
    """Draws the figure again."""
    DRAWN.write_text(drawing(read(RESULTS.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    main()
