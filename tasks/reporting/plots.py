"""The report's plots.

Item titles are untrusted; `markupsafe` escapes all values in figures.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl
from markupsafe import Markup

from tasks.reporting.facts.content import (
    Concentration,
    DayOfAnswers,
    MetricInterval,
    ReleaseFigure,
)
from tasks.reporting.facts.drift import Drift
from tasks.reporting.svg_chart import (
    PALETTE,
    Bar,
    Interval,
    Line,
    bar_chart,
    interval_chart,
    legend,
    line_chart,
)

MAX_MAP_POINTS = 1500
"""Maximum items on the map; more are sampled."""
MAX_BARS = 40
TITLE_CHARACTERS = 90
MOST_DOMAINS = 5
"""Maximum domains in a chart with two lines each."""


@dataclass(frozen=True)
class Plot:
    """A figure and its description. `colourings`: selectable meanings of colours (empty without a
    choice); `is_text`: the figure is text that a screen reader reads, without the description."""

    name: str
    figure: Markup
    description: str
    colourings: tuple[str, ...] = ()
    is_text: bool = False


def history_plot(lengths: pl.DataFrame) -> Plot | None:
    """Returns a histogram of events per user from (length, users), or None without users."""
    lengths = lengths.filter(pl.col("users") > 0).sort("length")
    if lengths.is_empty():
        return None
    shortest, longest = int(lengths["length"][0]), int(lengths["length"][-1])
    width = math.ceil((longest - shortest + 1) / MAX_BARS)
    start = (pl.col("length") - shortest) // width * width + shortest
    bars = lengths.group_by(start.alias("start")).agg(pl.col("users").sum()).sort("start")
    drawn = [
        Bar(s, s + width, users, f"{_range(s, width)} events: {users:,} users")
        for s, users in bars.iter_rows()
    ]
    description = (
        f"Histogram of history lengths: from {shortest:,} to {longest:,} events a user, "
        f"median {_weighted_median(lengths):,}."
    )
    figure = bar_chart(drawn, "events in a user's history", "users")
    return Plot("history-lengths", figure, description)


def learning_plot(curve: pl.DataFrame) -> Plot | None:
    """Returns validation metrics above training loss by epoch, or None without epochs."""
    curve = curve.sort("epoch")
    if curve.is_empty():
        return None
    scored = curve.filter(pl.col("validation_ndcg").is_not_null())
    loss = _curve(curve, "loss", "training loss", 2)
    quality = [
        line
        for line in (
            _curve(curve, "validation_hr", "validation HR@10", 1),
            _curve(curve, "validation_ndcg", "validation NDCG@10", 0),
        )
        if line.points
    ]
    # Two panels, because loss and metrics have different scales.
    figure = Markup("")
    if quality:
        figure += line_chart(quality, "epoch", "HR and NDCG", 200)
    figure += line_chart([loss], "epoch", "training loss", 140)
    description = (
        f"Learning curve over {curve.height:,} epochs: HR and NDCG on the validation events above "
        "(higher is better), training loss below (lower is better)."
    )
    if not scored.is_empty():
        best = scored.row(int(scored["validation_ndcg"].arg_max() or 0), named=True)
        description += (
            f" Validation NDCG@10 is highest in epoch {best['epoch']}, "
            f"at {best['validation_ndcg']:.3f}."
        )
    return Plot("learning-curve", figure, description)


def models_plot(intervals: Sequence[MetricInterval]) -> Plot | None:
    """Returns NDCG@10 of every model with its interval, or None with fewer than two models."""
    if len(intervals) < 2:
        return None
    rows = [Interval(row.model, *row.ndcg, ours=row.behind_ours is None) for row in intervals]
    description = "NDCG@10 by full ranking; whiskers are 95% intervals over users."
    return Plot("models", interval_chart(rows), description, is_text=True)


def releases_plot(figures: Sequence[ReleaseFigure]) -> Plot | None:
    """Returns NDCG@10 over releases by creation time, or None for fewer than two."""
    if len(figures) < 2:
        return None
    points = [(float(place), figure.ndcg) for place, figure in enumerate(figures, 1)]
    words = [
        f"{figure.name}, {figure.made:%Y-%m-%d %H:%M} UTC, {figure.decision}: {figure.ndcg:.4f}"
        for figure in figures
    ]
    step = math.ceil(len(figures) / 6)
    ticks = [
        (float(place), f"{figure.made:%m-%d %H:%M}")
        for place, figure in enumerate(figures, 1)
        if (place - 1) % step == 0
    ]
    line = Line("NDCG@10", points, words)
    description = (
        f"NDCG@10 of the last {len(figures):,} releases on the held-out events of each; releases "
        "of other data were measured on other events."
    )
    figure = line_chart([line], "made, UTC", "NDCG@10", 180, ticks)
    return Plot("releases", figure, description)


def concentration_plot(domains: Sequence[Concentration]) -> Plot | None:
    """Returns the share of events of the most popular items, or None without events."""
    if not domains:
        return None
    lines = [
        Line(
            domain.name,
            [(100 * items, 100 * events) for items, events in domain.points],
            [
                f"{domain.name}: the most popular {items:.0%} of items have {events:.0%} of events"
                for items, events in domain.points
            ],
            number,
        )
        for number, domain in enumerate(domains)
    ]
    tenth = ", ".join(f"{d.share_of_top(0.1):.0%} in {d.name}" for d in domains)
    description = f"The most popular tenth of the items has this share of the events: {tenth}."
    figure = line_chart(lines, "items, most popular first, %", "share of events, %", 220)
    return Plot("popularity", figure, description)


def drift_plot(drift: Drift) -> Plot | None:
    """Returns events over time before and now, of the largest domains; None without events."""
    busiest = sorted(drift.volumes, key=lambda volume: -sum(volume.now))[:MOST_DOMAINS]
    if not busiest:
        return None
    days = [f"{moment:%Y-%m-%d}" for moment in drift.moments]
    lines = [
        Line(
            f"{volume.name}, {when}",
            [(float(place), float(count)) for place, count in enumerate(counts)],
            [
                f"{volume.name}, {when}, from {day}: {count:,} events"
                for day, count in zip(days, counts, strict=True)
            ],
            number,
            dashed=when == "before",
        )
        for number, volume in enumerate(busiest)
        for when, counts in (("now", volume.now), ("before", volume.before))
    ]
    step = math.ceil(len(days) / 6)
    ticks = [(float(place), day) for place, day in enumerate(days) if place % step == 0]
    if days[0][:4] == days[-1][:4]:
        ticks = [(place, day[5:]) for place, day in ticks]
    added = sum(domain.added for domain in drift.domains)
    gone = sum(domain.gone for domain in drift.domains)
    description = (
        f"Events over time in the data of the served release (dashed) and in these: {added:,} "
        f"events were added, {gone:,} are no longer there."
    )
    figure = line_chart(lines, "start of each period, UTC", "events", 200, ticks)
    return Plot("drift", figure, description)


def answers_plot(rows: Sequence[DayOfAnswers]) -> Plot | None:
    """Returns tokens by day and role, or None for fewer than two days."""
    days = sorted({row.day for row in rows})
    if len(days) < 2:
        return None
    lines = []
    for number, role in enumerate(sorted({row.role for row in rows})):
        of_role = {row.day: row for row in rows if row.role == role}
        spent = [(day, of_role[day].tokens if day in of_role else 0) for day in days]
        points = [(float((day - days[0]).days), float(tokens)) for day, tokens in spent]
        words = [f"{day}, {role}: {tokens:,} tokens" for day, tokens in spent]
        lines.append(Line(role, points, words, number))
    step = math.ceil(len(days) / 6)
    ticks = [(float((day - days[0]).days), f"{day:%m-%d}") for day in days[::step]]
    total = sum(row.tokens for row in rows)
    description = f"Tokens paid for by day, {total:,} in all; days without a point cost nothing."
    return Plot("answers", line_chart(lines, "day, UTC", "tokens", 180, ticks), description)


def item_map_plot(item_map: pl.DataFrame) -> Plot | None:
    """Returns the scatter of all items, switchable between domain and cluster colours, or None."""
    points = item_map.filter(pl.col("x").is_finite() & pl.col("y").is_finite())
    if points.is_empty():
        return None
    total = points.height
    if total > MAX_MAP_POINTS:
        points = points.sample(MAX_MAP_POINTS, seed=0)
    # From all items, so that colours agree with other parts of the page.
    numbers = {
        colouring: {
            value: number
            for number, value in enumerate(item_map[colouring].drop_nulls().unique().sort())
        }
        for colouring in ("domain", "cluster")
    }
    x, y = _spread(points["x"]), _spread(points["y"])
    circles = [
        Markup(
            '<circle class="d{} c{}" cx="{:.1f}%" cy="{:.1f}%" r="3"><title>{}</title></circle>'
        ).format(
            numbers["domain"].get(domain, 0) % PALETTE,
            numbers["cluster"].get(cluster, 0) % PALETTE,
            across,
            down,
            f"{_cut(title)} – {domain}, cluster {cluster}",
        )
        for across, down, (title, domain, cluster) in zip(
            x, y, points.select("title", "domain", "cluster").iter_rows(), strict=True
        )
    ]
    keys = [
        legend([(str(value), number) for value, number in found.items()], f"by-{colouring}")
        for colouring, found in numbers.items()
    ]
    figure = Markup(
        '<div class="map" data-colour="domain">{}<svg aria-hidden="true">{}</svg></div>'
    ).format(Markup("").join(keys), Markup("").join(circles))
    shown = (
        f"{total:,}" if points.height == total else f"A sample of {points.height:,} of {total:,}"
    )
    description = (
        f"{shown} items with a text, in two dimensions: items with similar texts are close "
        "together. Distances are approximate: two dimensions keep only a part of the variation."
    )
    return Plot("item-map", figure, description, ("domain", "cluster"))


def domain_colours(names: Iterable[str]) -> dict[str, int]:
    """Returns the palette number of each domain, as on the item map."""
    return {name: i % PALETTE for i, name in enumerate(sorted(set(names)))}


def _curve(curve: pl.DataFrame, column: str, name: str, colour: int) -> Line:
    rows = curve.filter(pl.col(column).is_not_null()).select("epoch", column)
    points = [(float(epoch), float(value)) for epoch, value in rows.iter_rows()]
    words = [f"epoch {epoch:.0f}: {name} {value:.4f}" for epoch, value in points]
    return Line(name, points, words, colour, dashed=colour == 2)


def _spread(values: pl.Series) -> list[float]:
    """Percentages between 2 and 98."""
    low, high = float(values.min() or 0), float(values.max() or 0)  # pyright: ignore
    span = (high - low) or 1.0
    return [2 + 96 * (value - low) / span for value in values]


def _range(start: int, width: int) -> str:
    return f"{start}" if width == 1 else f"{start} to {start + width - 1}"


def _cut(text: str | None) -> str:
    text = " ".join((text or "no title").split())
    return text if len(text) <= TITLE_CHARACTERS else text[: TITLE_CHARACTERS - 1].rstrip() + "…"


def _weighted_median(lengths: pl.DataFrame) -> int:
    half = lengths["users"].sum() / 2
    return int(lengths.filter(pl.col("users").cum_sum() >= half)["length"][0])
