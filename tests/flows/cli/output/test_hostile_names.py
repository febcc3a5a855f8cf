"""Names of domains are other people's text: terminal and files show them and obey none."""

import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from artifacts.bundles import create_bundle
from artifacts.kinds.results import FULL, METRIC_SCHEMA, METRICS
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from flows.cli.commands.upkeep.release_command import history_table
from flows.cli.commands.use.export_commands import _export_table
from flows.cli.output import terminal
from flows.cli.output.console import facts_of, metric_tables, verdict_line
from tasks.frame.stage import StageResult
from tasks.promoting.promotion import promote
from tasks.promoting.verdict import Verdict
from tasks.serving.export.export_recs import (
    LONGEST,
    DomainExport,
    ExportConfig,
    Exported,
    file_names,
)

NAMES = ["[/red]x", "[bold]y", "[link=http://a]z", ":smile:", "[@click=f]q", "\\[/]"]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    for console in (terminal.out, terminal.err):
        monkeypatch.setattr(console, "_file", text)
        monkeypatch.setattr(console, "_width", 200)
    return text


def stored(store: Store, domain: str) -> ArtifactRef:
    wanted = identity(Kind.METRICS, {"domain": domain}, {})
    rows = [(domain, FULL, domain, "all", "HR@10", 0.3, 40)]
    with store.create(wanted) as draft:
        pl.DataFrame(rows, METRIC_SCHEMA, orient="row").write_parquet(draft.path / METRICS)
    return wanted.ref


@pytest.mark.parametrize("name", NAMES)
def test_tables_and_lines_show_names_as_they_are(
    tmp_path: Path, shown: io.StringIO, name: str
) -> None:
    store = Store(tmp_path)
    metrics = stored(store, name)
    release = create_bundle(store, Kind.RELEASE, {"metrics": metrics})
    promote(store, release, name)
    part = DomainExport(file="f", rows=1, items=1, coverage=1.0, short_lists=0)
    made = Exported(
        release=name,
        created=store.manifest(metrics).created,
        config=ExportConfig(),
        users=1,
        users_left_out=0,
        domains={name: part},
    )
    stage = StageResult(
        stage=name, ref=metrics, reused=False, seconds=1, counts={}, notes=[f"made by {name}"]
    )
    verdict = Verdict(
        promoted=False,
        reasons=(f"lists of {name}",),
        basis="",
        served_ndcg=None,
        candidate_ndcg=None,
        user_coverage=1,
    )
    for printed in (
        *metric_tables(store, metrics),
        history_table(store),
        _export_table(made),
        *facts_of((stage,)),
        verdict_line(release, verdict),
        f"Report: /shops/{name}/report.html",
    ):
        shown.seek(shown.truncate(0))
        terminal.out.print(printed)
        assert name in shown.getvalue()
    shown.seek(shown.truncate(0))
    terminal.err.print(name, highlight=False)
    assert shown.getvalue() == f"{name}\n"


def test_a_console_that_reads_markup_would_have_died() -> None:
    """What the tests above rest on."""
    with pytest.raises(Exception, match="closing tag"):
        Console(file=io.StringIO()).print("[/red]x")


@given(st.lists(st.text(min_size=1, max_size=90), min_size=1, max_size=6, unique=True))
@settings(deadline=None, max_examples=200)
def test_every_set_of_domains_has_distinct_file_names_that_any_file_system_takes(
    names: list[str],
) -> None:
    made = file_names(names)
    assert len({name.casefold() for name in made}) == len(names)
    for name in made:
        assert name.isascii()
        assert len(name) <= LONGEST + 17
        assert not set(name) & set('/\\:*?"<>| [](){}\0')
        assert name[0] not in ".-"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["food", "kitchen-2.0"], ["food", "kitchen-2.0"]),
        (["Food", "food"], [r"Food-\w{16}", r"food-\w{16}"]),
        (["😀" * 60], [r"domain-\w{16}"]),
        (["Bücher & Tee"], [r"Bucher-Tee-\w{16}"]),
        (["../up", "."], [r"up-\w{16}", r"domain-\w{16}"]),
        (["x" * 300], [rf"x{{{LONGEST}}}-\w{{16}}"]),
    ],
)
def test_plain_names_stay_and_others_keep_what_can_be_read(
    names: list[str], expected: list[str]
) -> None:
    import re

    for name, pattern in zip(file_names(names), expected, strict=True):
        assert re.fullmatch(pattern, name), name
