"""The report's plots: a frame in, a Plotly figure as JSON out.

Figures carry no text or grid colours: the page sets them for light, dark and print. The colours
of data below keep a contrast of 3:1 or nearly so on both backgrounds. Titles of items come from
outside, and Plotly reads a small markup in hover texts, so they are escaped here as well.
"""

import html
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

import plotly.graph_objects as go
import polars as pl

COLOURS = (
    "#3b7dd8",
    "#dd7f1e",
    "#2a9d78",
    "#c8506b",
    "#8a6fd1",
    "#a5782f",
    "#4a9fb5",
    "#b456a8",
    "#7b9a2d",
    "#8a8f98",
)
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross")
MAX_MAP_POINTS = 4000
"""More items than this are sampled: the map stays quick to draw and hover on a phone."""
MAX_BARS = 40
TITLE_CHARACTERS = 90
PLAIN_MARGIN = {"l": 60, "r": 12, "t": 16, "b": 56}
LEGEND_MARGIN = {"l": 60, "r": 12, "t": 56, "b": 56}
MAP_MARGIN = {"l": 12, "r": 12, "t": 36, "b": 48}


@dataclass(frozen=True)
class Plot:
    """A figure as JSON that is safe inside a script element, and what it shows in words.

    `colourings` names the switchable sets of traces (empty where there is nothing to switch);
    each trace says in `meta` to which it belongs.
    """

    name: str
    figure: str
    description: str
    colourings: tuple[str, ...] = ()


def history_plot(lengths: pl.DataFrame) -> Plot | None:
    """Return a histogram of events per user from (length, users), or None without users."""
    lengths = lengths.filter(pl.col("users") > 0).sort("length")
    if lengths.is_empty():
        return None
    shortest, longest = int(lengths["length"][0]), int(lengths["length"][-1])
    width = math.ceil((longest - shortest + 1) / MAX_BARS)
    start = (pl.col("length") - shortest) // width * width + shortest
    bars = lengths.group_by(start.alias("start")).agg(pl.col("users").sum()).sort("start")
    names = [str(s) if width == 1 else f"{s} to {s + width - 1}" for s in bars["start"]]
    figure = go.Figure(
        go.Bar(
            x=[s + (width - 1) / 2 for s in bars["start"]],
            y=bars["users"].to_list(),
            width=width * 0.86,
            text=names,
            textposition="none",
            marker_color=COLOURS[0],
            hovertemplate="%{text} events: %{y:,} users<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="events in a user's history")
    figure.update_yaxes(title_text="users")
    description = (
        f"Histogram of history lengths: from {shortest:,} to {longest:,} events a user, "
        f"median {_weighted_median(lengths):,}."
    )
    return Plot("history-lengths", figure_json(figure, 300, PLAIN_MARGIN), description)


def learning_plot(curve: pl.DataFrame) -> Plot | None:
    """Return validation metrics above training loss by epoch, or None without epochs."""
    curve = curve.sort("epoch")
    scored = curve.filter(pl.col("validation_ndcg").is_not_null())
    if curve.is_empty():
        return None
    epochs = curve["epoch"].to_list()
    figure = go.Figure()
    for name, column, axis, colour, dash in (
        ("validation HR@10", "validation_hr", "y2", COLOURS[1], "solid"),
        ("validation NDCG@10", "validation_ndcg", "y2", COLOURS[0], "solid"),
        ("training loss", "loss", "y", COLOURS[2], "dot"),
    ):
        figure.add_scatter(
            name=name,
            x=epochs,
            y=curve[column].to_list(),
            yaxis=axis,
            mode="lines+markers" if len(epochs) < 30 else "lines",
            connectgaps=True,
            line={"color": colour, "dash": dash, "width": 2},
            hovertemplate=f"epoch %{{x}}: {name} %{{y:.4f}}<extra></extra>",
        )
    # Two panels over one axis: loss and ranking metrics have no scale in common.
    figure.update_layout(
        xaxis={"title": {"text": "epoch"}},
        yaxis={"domain": [0, 0.42], "title": {"text": "loss"}, "automargin": True},
        legend={"y": 1.02, "yanchor": "bottom"},
        yaxis2={"domain": [0.54, 1], "title": {"text": "HR, NDCG"}, "rangemode": "tozero"},
    )
    description = (
        f"Learning curve over {len(epochs):,} epochs: HR and NDCG on the validation events above "
        "(higher is better), training loss below (lower is better)."
    )
    if not scored.is_empty():
        best = scored.row(int(scored["validation_ndcg"].arg_max() or 0), named=True)
        description += (
            f" Validation NDCG@10 is highest in epoch {best['epoch']}, "
            f"at {best['validation_ndcg']:.3f}."
        )
    return Plot("learning-curve", figure_json(figure, 430, LEGEND_MARGIN), description)


def item_map_plot(item_map: pl.DataFrame) -> Plot | None:
    """Return the scatter of all items, switchable between domain and cluster colours, or None."""
    points = item_map.filter(pl.col("x").is_finite() & pl.col("y").is_finite())
    if points.is_empty():
        return None
    total = points.height
    if total > MAX_MAP_POINTS:
        points = points.sample(MAX_MAP_POINTS, seed=0)
    figure = go.Figure()
    for colouring in ("domain", "cluster"):
        # From all items, not from the sample: colours must agree with the page's other parts.
        for index, value in enumerate(item_map[colouring].drop_nulls().unique().sort()):
            _add_points(figure, points.filter(pl.col(colouring) == value), colouring, value, index)
    axis = {"showticklabels": False, "showline": False, "showgrid": False, "zeroline": False}
    figure.update_layout(xaxis=axis, yaxis=axis, hovermode="closest")
    figure.update_layout(legend={"y": -0.02, "yanchor": "top", "itemsizing": "constant"})
    shown = (
        f"{total:,}" if points.height == total else f"A sample of {points.height:,} of {total:,}"
    )
    description = (
        f"{shown} items in the plane: items with similar text lie close together. Distances are "
        "only a rough guide, because two dimensions keep a part of the embeddings' variation."
    )
    return Plot(
        "item-map", figure_json(figure, 580, MAP_MARGIN), description, ("domain", "cluster")
    )


def domain_colours(names: Iterable[str]) -> dict[str, str]:
    """Return the colour of each domain: the one that it has on the item map."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sorted(set(names)))}


def _add_points(
    figure: go.Figure, points: pl.DataFrame, colouring: str, value: str | int, index: int
) -> None:
    label = str(value) if colouring == "domain" else f"cluster {value}"
    texts = [
        f"{_plain(title)}<br>{_plain(domain)}, cluster {_plain(str(cluster))}"
        for title, domain, cluster in points.select("title", "domain", "cluster").iter_rows()
    ]
    figure.add_scatter(
        name=_plain(label),
        meta=colouring,
        visible=colouring == "domain",
        x=points["x"].round(4).to_list(),
        y=points["y"].round(4).to_list(),
        mode="markers",
        marker={
            "size": 6,
            "opacity": 0.75,
            "color": COLOURS[index % len(COLOURS)],
            "symbol": SYMBOLS[index // len(COLOURS) % len(SYMBOLS)],
        },
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )


def _plain(text: str | None) -> str:
    """Return outside text that Plotly's markup leaves as it is, cut to a hover's width."""
    text = " ".join((text or "no title").split())
    if len(text) > TITLE_CHARACTERS:
        text = text[: TITLE_CHARACTERS - 1].rstrip() + "…"
    return html.escape(text, quote=False)


def _weighted_median(lengths: pl.DataFrame) -> int:
    half = lengths["users"].sum() / 2
    return int(lengths.filter(pl.col("users").cum_sum() >= half)["length"][0])


def figure_json(figure: go.Figure, height: int, margin: dict[str, int]) -> str:
    figure.update_layout(
        template="none",
        height=height,
        margin=margin,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "x": 0},
    )
    text = json.dumps(json.loads(str(figure.to_json())), separators=(",", ":"))
    # A title may hold '</script>'; with no angle bracket left, it cannot end the element.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
