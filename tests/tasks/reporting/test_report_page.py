"""The report: what it says about a run, and that no outside text becomes markup or code."""

import base64
import hashlib
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.promoting.baseline_lead import BaselineLead
from tasks.reporting.facts.content import (
    HeldOut,
    ReportContent,
    Transitions,
)
from tasks.reporting.facts.metrics import format_gain, format_score, headlines, metric_table
from tasks.reporting.page import format_duration, is_small_model, render_report
from tasks.reporting.plots import MAX_MAP_POINTS, domain_colours, history_plot, item_map_plot
from tests.tasks.reporting.whole_report import CREATED, METRICS, cold_table, full, scores

HOSTILE = "</script><img src=x onerror=\"alert('1')\"><b>{{ 7 * 7 }}</b> &amp; ]]> <!-- %{x}"
BANNER = "Made with the dummy endpoint: text and vectors are not from a language model."


@dataclass
class Page(HTMLParser):
    """The page as a browser's parser sees it."""

    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    scripts: list[tuple[dict[str, str | None], str]] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        inside = getattr(self, "inside", "")
        if inside == "script":
            attributes, text = self.scripts.pop()
            self.scripts.append((attributes, text + data))
        elif inside == "style":
            self.styles.append(data)
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def parse(page: str) -> Page:
    parsed = Page()
    parsed.feed(page)
    parsed.close()
    return parsed


def minimal(title: str = "Nightly run") -> ReportContent:
    return ReportContent(title=title, created=CREATED, dataset_name="mini", dummy=False)


def test_hostile_text_stays_text_everywhere() -> None:
    harmless, hostile = parse(render_report(full())), parse(render_report(full(HOSTILE)))
    assert hostile.tags == harmless.tags
    assert [(t, n) for t, n, _ in hostile.attributes] == [(t, n) for t, n, _ in harmless.attributes]
    assert not {"img", "b"} & set(hostile.tags)
    shown = "".join(hostile.texts).count(HOSTILE)
    assert shown == "".join(harmless.texts).count("Dark roast coffee, 24 pods") > 20


@settings(deadline=None, max_examples=50)
@given(title=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_title_is_shown_as_it_is(title: str) -> None:
    page = parse(render_report(minimal(title)))
    assert title in "".join(page.texts)
    assert page.tags == parse(render_report(minimal())).tags


@pytest.mark.parametrize("content", [full(), minimal()], ids=["full", "minimal"])
def test_the_page_loads_nothing(content: ReportContent) -> None:
    page = parse(render_report(content))
    assert not {"link", "iframe", "object", "embed", "base", "img"} & set(page.tags)
    assert page.values("src") == []
    assert all(link.startswith("#") for link in page.values("href"))
    assert not re.search(r"url\(|@import", "".join(page.styles))
    (policy,) = [value for value in page.values("content") if "default-src" in value]
    assert policy.startswith("default-src 'none'")


def test_only_the_script_of_the_page_may_run() -> None:
    page = parse(render_report(full(HOSTILE)))
    (policy,) = [value for value in page.values("content") if "script-src" in value]
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    running = [text for attributes, text in page.scripts if "type" not in attributes]
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in running]
    assert digests == allowed
    assert len(allowed) == 1
    assert "unsafe" not in policy.partition("script-src")[2].partition(";")[0]


def test_the_page_is_light() -> None:
    item_map = pl.DataFrame(
        {
            "x": [float(n % 97) for n in range(MAX_MAP_POINTS)],
            "y": [float(n % 89) for n in range(MAX_MAP_POINTS)],
            "title": ["A title of the usual length, with brand and size, 500 g"] * MAX_MAP_POINTS,
            "domain": ["food", "kitchen"] * (MAX_MAP_POINTS // 2),
            "cluster": ["07 · Moka pots"] * MAX_MAP_POINTS,
        }
    )
    page = render_report(replace(full(), item_map=item_map))
    assert len(page.encode()) < 1_000_000
    assert page.count("<circle") >= MAX_MAP_POINTS
    assert len(render_report(minimal())) < 50_000


def test_groups_stand_below_each_other_with_a_column_a_model() -> None:
    page = render_report(replace(full(), metrics=METRICS))
    table = page[page.index('id="t-groups"') : page.index("</table>", page.index('id="t-groups"'))]
    head = parse(table[: table.index("</thead>")]).text
    assert head.endswith("Group Events llm4cdsr markov popularity")
    assert "cold 37 – 7.0%" in parse(table).text


def test_where_events_go_on_is_a_share_of_each_row() -> None:
    moves = Transitions(("food", "kitchen"), ((30, 10), (0, 0)))
    text = parse(render_report(replace(full(), transitions=moves))).text
    assert "food 75.0% 30 25.0% 10" in text
    assert "kitchen 0.0% 0 0.0% 0" in text


def test_what_made_the_report_is_named_and_settings_are_folded() -> None:
    content = replace(full(), origin=(("version", "llm4cdsr 0.1.0, commit 0123456789ab"),))
    page = render_report(content)
    assert "commit 0123456789ab" in parse(page).text
    assert "<summary>1 settings</summary>" in page


@pytest.mark.parametrize("dummy", [True, False])
def test_the_banner_stands_only_on_a_page_of_the_dummy_endpoint(dummy: bool) -> None:
    text = parse(render_report(replace(full(), dummy=dummy))).text
    assert (BANNER in text) == dummy


def test_the_recall_of_an_index_is_told_where_one_proposed_what_was_scored() -> None:
    content = full()
    assert content.guards is not None
    assert "Recall of the index" not in render_report(content)
    searched = replace(content, guards=replace(content.guards, index_recall=0.9871))
    row = render_report(searched).split("Recall of the index")[1].split("</tr>")[0]
    assert "98.7" in row


def test_every_missing_part_is_named_in_a_sentence() -> None:
    text = parse(render_report(minimal())).text
    for sentence in (
        "This run has no evaluation yet, so this page says nothing about accuracy.",
        "No groups were evaluated in this run.",
        "No learning curve was recorded for this run.",
        "This report has no facts about the dataset.",
        "No map of the items was made in this run.",
        "No clusters of items were made in this run.",
        "No user profiles were made in this run.",
        "This run has no examples of recommended items without training events.",
        "No language model requests were recorded for this run.",
        "No stage timings were recorded for this run.",
    ):
        assert sentence in text


@pytest.mark.parametrize(
    "part", ["dataset", "learning_curve", "metrics", "item_map", "guards", "chat_model"]
)
def test_each_part_may_be_missing_alone(part: str) -> None:
    assert "How to read this" in parse(render_report(replace(full(), **{part: None}))).text


def test_empty_frames_are_missing_parts() -> None:
    content = full()
    assert content.metrics is not None
    assert content.item_map is not None
    assert content.learning_curve is not None
    empty = replace(
        content,
        metrics=content.metrics.clear(),
        item_map=content.item_map.clear(),
        learning_curve=content.learning_curve.clear(),
    )
    text = parse(render_report(empty)).text
    assert "No map of the items was made" in text
    assert "No learning curve was recorded" in text
    assert "no evaluation by full ranking" in text


def test_the_summary_opens_with_the_headline_numbers() -> None:
    text = parse(render_report(replace(full(), metrics=METRICS))).text
    assert (
        "On the held-out last events of 1,000 users, ranked among all items of their domain that "
        "the user has not seen, llm4cdsr places the right item in the top 10 for 34.0%, against "
        "10.0% for popularity (3.4 times as much). It is 4.0 percentage points ahead of the "
        "strongest other baseline, markov (30.0%), with a sampling error of about "
        "±2.9 points. It was made from 18,301 events of 1,431 users"
    ) in text
    assert "1,300 language model requests, 21 answers reused at no cost and 3 failed." in text


def test_the_summary_and_the_first_tile_say_the_same_of_the_strongest_baseline() -> None:
    lead = BaselineLead(
        baseline="markov", ours=0.392, theirs=0.376, low=-0.007, high=0.038, events=400
    )
    text = parse(render_report(replace(full(), metrics=METRICS, lead=lead))).text
    assert "No significant difference from the strongest baseline, markov: NDCG@10 0.392" in text
    assert "level" in text
    assert "percentage points ahead" not in text


def test_several_held_out_events_a_user_are_not_called_last_events() -> None:
    content = replace(full(), metrics=METRICS, held_out=HeldOut(events=1000, users=80))
    text = parse(render_report(content)).text
    assert "On 1,000 held-out events of 80 users, ranked among all items" in text
    assert "1,000 events of 80 users were held out, and each model ranked their items" in text
    assert "last event" not in text
    assert "sampling" not in text.lower()  # A margin of independent events would be too small.


def test_the_sampled_ranking_is_named_by_its_candidates() -> None:
    text = parse(render_report(replace(full(), sampled_candidates=1500))).text
    assert "against 1,500 random items" in text
    assert "among 1,500 sampled negatives" in text


def test_a_model_behind_a_baseline_is_said_to_be_behind() -> None:
    worse = METRICS.with_columns(
        value=pl.when(pl.col("model") == "llm4cdsr").then(0.25).otherwise("value")
    )
    text = parse(render_report(replace(minimal(), metrics=worse))).text
    assert "It is 5.0 percentage points behind the strongest other baseline, markov" in text


def test_one_model_alone_claims_no_win() -> None:
    alone = METRICS.filter(model="llm4cdsr")
    page = render_report(replace(minimal(), metrics=alone))
    assert "Only one model was evaluated, so there is nothing to compare it with." in page
    assert "popularity was not evaluated" in page
    assert "<strong>" not in page


def test_the_best_value_of_a_column_is_marked_wherever_it_stands() -> None:
    table = metric_table(METRICS, "full", "domain")
    assert table is not None
    assert table.columns == (("all", 1000), ("food", 600))
    assert table.metrics == ("HR@10", "NDCG@10")
    best = {row.model: [cell.text for cell in row.cells if cell.best] for row in table.rows}
    assert best == {"llm4cdsr": ["34.0%"], "markov": ["0.210", "44.0%"], "popularity": []}
    assert table.rows[0].gains == ("3.4×", "4.0×")


def test_values_that_look_equal_share_the_mark() -> None:
    close = scores(
        ("llm4cdsr", "full", "all", "all", "HR@10", 0.50004, 10),
        ("b", "full", "all", "all", "HR@10", 0.50001, 10),
        ("c", "full", "all", "all", "HR@10", float("nan"), 10),
    )
    table = metric_table(close, "full", "domain")
    assert table is not None
    assert [(row.cells[0].text, row.cells[0].best) for row in table.rows] == [
        ("50.0%", True),
        ("50.0%", True),
        ("–", False),
    ]


def test_sampled_ranking_never_makes_the_headline() -> None:
    sampled = METRICS.filter(ranking="sampled")
    assert headlines(sampled) == ()


def test_a_gain_over_nothing_is_no_number() -> None:
    assert format_gain(0.3, 0.1) == "3.0×"
    assert format_gain(0.3, 0.0) == "–"
    assert format_score("HR@10", None) == "–"


def test_every_entry_of_the_contents_leads_to_a_section() -> None:
    page = parse(render_report(minimal()))
    anchors = {link.removeprefix("#") for link in page.values("href")}
    assert anchors <= set(page.values("id"))
    assert page.tags.count("section") == len(anchors) == 13
    assert len(page.values("id")) == len(set(page.values("id")))


def test_every_table_has_a_caption_and_every_plot_a_description() -> None:
    page = parse(render_report(full()))
    assert page.tags.count("table") == page.tags.count("caption") > 5
    plots = [value for tag, name, value in page.attributes if (tag, name) == ("div", "role")]
    assert plots.count("img") == 5
    assert "median 5" in " ".join(page.values("aria-label"))


def test_a_large_map_is_sampled_and_says_so() -> None:
    count = MAX_MAP_POINTS + 500
    items = pl.DataFrame(
        {
            "x": [float(i) for i in range(count)],
            "y": [0.0] * count,
            "title": ["t"] * count,
            "domain": ["kitchen" if i % 2 else "food" for i in range(count)],
            "cluster": [i % 3 for i in range(count)],
        }
    )
    plot = item_map_plot(items)
    assert plot is not None
    assert plot.description.startswith(f"A sample of 1,500 of {count:,} items")
    assert plot.figure.count("<circle") == MAX_MAP_POINTS
    colours = domain_colours(items["domain"])
    assert colours == {"food": 0, "kitchen": 1}
    assert plot.figure.count(f'"d{colours["kitchen"]} ') > MAX_MAP_POINTS / 3


def test_history_bars_hold_every_user() -> None:
    lengths = pl.DataFrame({"length": list(range(3, 203)), "users": [2] * 200})
    plot = history_plot(lengths)
    assert plot is not None
    words = re.findall(r"events: ([\d,]+) users</title>", plot.figure)
    assert sum(map(int, words)) == 400
    assert len(words) == 40
    assert "from 3 to 202 events a user, median 102" in plot.description


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.84, "0.8 s"), (59.6, "1 min 0 s"), (12, "12 s"), (192, "3 min 12 s"), (7260, "2 h 1 min")],
)
def test_durations_show_their_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_withheld_domains_are_shown_with_our_lead_and_told_where_nothing_else_is() -> None:
    shown = parse(render_report(replace(minimal(), cold_domain=(cold_table("food"),)))).text
    assert "food → kitchen: 1,376 users" in shown
    assert "0.093 \N{MINUS SIGN}0.076 (\N{MINUS SIGN}0.090 to \N{MINUS SIGN}0.060)" in shown
    assert "llm4cdsr has a withheld item in the top 10 for 14.0% of them" in shown
    assert (
        "14.3 percentage points behind the strongest baseline, EMCDR (28.3%); the 95% interval of "
        "the lead is \N{MINUS SIGN}17.0 to \N{MINUS SIGN}12.0"
    ) in shown
    assert "Users new to a domain" not in parse(render_report(minimal())).text


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("SmolLM2-135M-Instruct", True),
        ("Qwen2.5-0.5B-Instruct", True),
        ("org/tiny-60m", True),
        ("Qwen2.5-1.5B-Instruct", False),
        ("Qwen2.5-10.5B", False),
        ("llama-3.1-70b", False),
        ("gpt-5-mini", False),
        (None, False),
    ],
)
def test_a_model_of_less_than_a_billion_parameters_is_told(name: str | None, small: bool) -> None:
    assert is_small_model(name) is small
    text = render_report(replace(full(), chat_model=name, dummy=False))
    assert ("fewer than a billion parameters" in text) is small


def test_how_newcomers_of_a_domain_are_met_is_one_of_the_large_numbers() -> None:
    first = ("full", "all", "first event in its domain", "HR@10")
    rows = scores(("llm4cdsr", *first, 0.361, 61), ("popularity", *first, 0.082, 61))
    text = render_report(replace(full(), metrics=pl.concat([METRICS, rows])))
    assert "of 61 events; popularity 8.2%" in text
    assert "of 61 events" not in render_report(full())
