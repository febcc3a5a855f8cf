"""The figure of quality over training time shows what docs/results.md says today."""

from benchmarks.quality_seconds import DRAWN, RESULTS, drawing, read


def test_the_figure_is_drawn_from_todays_results() -> None:
    found = read(RESULTS.read_text("utf-8"))
    assert {"food-kitchen-mini", "food-kitchen"} <= found.keys()
    assert {"best †", "single †", "paper"} <= {each.model for each in found["food-kitchen-mini"]}
    assert DRAWN.read_text("utf-8") == drawing(found), "run benchmarks/quality_seconds.py"
