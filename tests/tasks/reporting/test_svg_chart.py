"""Charts: values stand where they belong, and words of outside stay words."""

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reporting.facts.content import Concentration, MetricInterval
from tasks.reporting.plots import concentration_plot, learning_plot, models_plot
from tasks.reporting.svg_chart import (
    Bar,
    Interval,
    Line,
    axis_top,
    bar_chart,
    interval_chart,
    line_chart,
    tick_labels,
)


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_an_axis_holds_its_highest_value_and_is_not_mostly_empty(highest: float) -> None:
    top = axis_top(highest)
    assert highest <= top * 1.000001 <= highest * 2.6


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.0, 0.15, 0.3, 0.45, 0.6], ["0.00", "0.15", "0.30", "0.45", "0.60"]),
        ([0, 2500, 5000], ["0", "2,500", "5,000"]),
        ([0.0, 2.5e-5, 5e-5], ["0", "2.5e-05", "5e-05"]),
        ([], []),
    ],
)
def test_the_labels_of_an_axis_have_the_same_decimals(
    values: list[float], labels: list[str]
) -> None:
    assert [label for _, label in tick_labels(values)] == labels


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_an_axis_of_nothing_still_has_a_length(value: float) -> None:
    assert axis_top(value) == 1.0


def test_points_are_placed_by_their_share_of_the_axes() -> None:
    drawn = line_chart([Line("a", [(0, 0), (5, 1), (10, 2)], ["x", "y", "z"])], "x", "y")
    places = re.findall(r'cx="([\d.]+)%" cy="([\d.]+)%"', drawn)
    assert places == [("0.00", "100.00"), ("50.00", "50.00"), ("100.00", "0.00")]


def test_one_point_alone_is_drawn() -> None:
    assert line_chart([Line("a", [(3, 0.5)], ["w"])], "x", "y").count("<circle") == 1


def test_bars_are_as_high_as_their_values() -> None:
    drawn = bar_chart([Bar(0, 1, 5, "five"), Bar(1, 2, 9, "nine")], "x", "y")
    assert re.findall(r'height="([\d.]+)%"', drawn) == ["50.00", "90.00"]


def test_a_whisker_goes_from_the_low_to_the_high_end() -> None:
    drawn = interval_chart([Interval("m", 0.5, 0.4, 0.6, ours=True)])
    assert 'style="left:66.67%;width:33.33%"' in drawn
    assert 'class="ours"' in drawn


def test_names_of_outside_stay_words() -> None:
    hostile = '"><script>alert(1)</script>'
    for drawn in (
        interval_chart([Interval(hostile, 0.5, 0.4, 0.6, ours=False)]),
        line_chart([Line(hostile, [(0, 1)], [hostile]), Line("b", [(1, 1)], ["b"])], "x", "y"),
        bar_chart([Bar(0, 1, 1, hostile)], hostile, hostile),
    ):
        assert "<script" not in drawn
        assert hostile not in drawn


def test_a_curve_without_validation_is_its_loss_alone() -> None:
    curve = pl.DataFrame(
        {
            "epoch": [1, 2],
            "loss": [1.0, 0.5],
            "validation_ndcg": [None, None],
            "validation_hr": [None, None],
            "seconds": [1.0, 1.0],
        },
        schema_overrides={"validation_ndcg": pl.Float64, "validation_hr": pl.Float64},
    )
    plot = learning_plot(curve)
    assert plot is not None
    assert plot.figure.count('class="chart"') == 1


def test_the_chart_of_models_names_ours_first_and_needs_a_rival() -> None:
    ours = MetricInterval("ours", (0.2, 0.1, 0.3), (0.3, 0.2, 0.4), None)
    rival = MetricInterval("rival", (0.1, 0.05, 0.2), (0.2, 0.1, 0.3), (0.1, 0.0, 0.2))
    plot = models_plot((ours, rival))
    assert plot is not None
    assert re.findall('class="what">([^<]*)', plot.figure) == ["0.200", "0.100"]
    assert plot.is_text
    assert models_plot((ours,)) is None


def test_the_share_of_the_most_bought_tenth_is_read_off_the_curve() -> None:
    curve = Concentration("food", ((0.0, 0.0), (0.05, 0.2), (0.1, 0.4), (1.0, 1.0)))
    plot = concentration_plot((curve,))
    assert plot is not None
    assert "40% in food" in plot.description
