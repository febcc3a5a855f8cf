"""The model card of a release."""

from dataclasses import replace
from datetime import UTC, datetime

import polars as pl

from tasks.reporting.facts.content import (
    AblationFacts,
    DatasetFacts,
    DomainFacts,
    HeldOut,
    MetricInterval,
    ReportContent,
)
from tasks.reporting.model_card import FRONT_MATTER, render_model_card

CONTENT = ReportContent(
    title="Recommendations for mini",
    created=datetime(2026, 1, 2, tzinfo=UTC),
    dataset_name="mini",
    dummy=False,
    chat_model="chatty",
    embedding_model="embed-3",
    settings=(("model: hidden", "128"),),
    dataset=DatasetFacts(
        users=1200,
        items=30,
        events=9000,
        domains=(DomainFacts("food", 700, 10, 4000, 1, 2), DomainFacts("kitchen", 800, 20, 5000)),
        overlapping_users=300,
        single_domain_users=900,
        history_lengths=pl.DataFrame({"length": [3], "users": [1200]}),
    ),
    held_out=HeldOut(1100, 1100),
    intervals=(
        MetricInterval("llm4cdsr", (0.24, 0.22, 0.26), (0.4, 0.38, 0.42), None),
        MetricInterval("popularity", (0.05, 0.04, 0.06), (0.1, 0.09, 0.11), (0.19, 0.17, 0.21)),
    ),
    ablation=AblationFacts(900, 1200, (), ("Item texts raise quality here.",)),
)


def test_a_card_has_data_quality_and_what_the_language_model_brings() -> None:
    card = render_model_card(CONTENT)
    assert card.startswith(FRONT_MATTER)
    assert "9,000 events of 1,200 users on 30 items" in card
    assert "| food | 700 | 10 | 4,000 | 1 | 2 |" in card
    assert "| popularity | 0.050 (0.040 to 0.060)" in card
    assert "+0.190 (+0.170 to +0.210)" in card
    assert "- Item texts raise quality here." in card
    assert "Made with the dummy" not in card


def test_a_model_without_held_out_events_claims_no_quality() -> None:
    assert "Not measured: there was no held-out event" in render_model_card(
        replace(CONTENT, intervals=())
    )


def test_the_stand_in_of_a_language_model_is_named_first() -> None:
    limits = render_model_card(replace(CONTENT, dummy=True)).split("## Limits")[1]
    assert limits.strip().startswith("- **Made with the dummy")


def test_markdown_and_html_in_names_are_shown_not_obeyed() -> None:
    hostile = "[click](http://x) <b> | `code`\n# big"
    card = render_model_card(replace(CONTENT, title=hostile, dataset_name=hostile))
    assert "<b>" not in card.replace("\\<b\\>", "")
    assert "\n# big" not in card
    assert "\\[click\\](http://x)" in card
