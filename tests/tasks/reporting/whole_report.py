"""The content of a report with every part, small enough to read."""

from datetime import UTC, date, datetime, timedelta

import polars as pl

from artifacts.manifest import ArtifactRef, Kind
from tasks.frame.stage import LlmUsage, StageResult
from tasks.reporting.facts.content import (
    ClusterFacts,
    ColdDomainRow,
    ColdDomainTable,
    ColdItemAudience,
    ColdItemExample,
    CrossDomainExample,
    DatasetFacts,
    DayOfAnswers,
    DomainCoverage,
    DomainFacts,
    Guards,
    HistoryEvent,
    PartialPreference,
    ProfileExample,
    ReportContent,
)
from tasks.reporting.facts.drift import DomainDrift, DomainVolume, Drift

CREATED = datetime(2026, 11, 23, 18, 5, tzinfo=UTC)


def scores(*rows: tuple[str, str, str, str, str, float, int]) -> pl.DataFrame:
    columns = ["model", "ranking", "domain", "group", "metric", "value", "targets"]
    return pl.DataFrame(list(rows), schema=columns, orient="row")


METRICS = scores(
    ("popularity", "full", "all", "all", "NDCG@10", 0.05, 1000),
    ("popularity", "full", "all", "all", "HR@10", 0.10, 1000),
    ("llm4cdsr", "full", "all", "all", "NDCG@10", 0.20, 1000),
    ("llm4cdsr", "full", "all", "all", "HR@10", 0.34, 1000),
    ("markov", "full", "all", "all", "NDCG@10", 0.21, 1000),
    ("markov", "full", "all", "all", "HR@10", 0.30, 1000),
    ("llm4cdsr", "full", "food", "all", "HR@10", 0.40, 600),
    ("markov", "full", "food", "all", "HR@10", 0.44, 600),
    ("llm4cdsr", "full", "all", "cold", "HR@10", 0.07, 37),
    ("markov", "full", "all", "cold", "HR@10", 0.0, 37),
    ("llm4cdsr", "sampled", "all", "all", "HR@10", 0.66, 1000),
)


def full(text: str = "Dark roast coffee, 24 pods") -> ReportContent:
    """Return content with every part; each outside text is `text`."""
    history = (HistoryEvent(text, text), HistoryEvent("food", "Green tea"))
    return ReportContent(
        title=text,
        created=CREATED,
        dataset_name=text,
        dummy=True,
        chat_model=text,
        embedding_model=text,
        settings=((text, text),),
        dataset=DatasetFacts(
            users=1431,
            items=1155,
            events=18301,
            domains=(DomainFacts(text, 936, 359, 9884, 5, 12),),
            overlapping_users=602,
            single_domain_users=829,
            history_lengths=pl.DataFrame({"length": [5, 6, 9], "users": [4, 1, 2]}),
            dropped={text: 214},
        ),
        learning_curve=pl.DataFrame(
            {
                "epoch": [1, 2, 3],
                "loss": [0.9, 0.7, 0.6],
                "validation_ndcg": [0.1, 0.19, None],
                "validation_hr": [0.2, 0.31, None],
                "seconds": [4.0, 4.1, 4.0],
            }
        ),
        metrics=METRICS.with_columns(pl.col("model", "domain", "group").replace("markov", text)),
        item_map=pl.DataFrame(
            {
                "x": [0.0, 1.0],
                "y": [1.0, 0.0],
                "title": [text, text],
                "domain": ["food", text],
                "cluster": [0, 1],
            }
        ),
        clusters=(ClusterFacts(text, 40, {"food": 0.75, text: 0.25}, (text, text)),),
        profiles=(
            ProfileExample(
                user_id=text,
                domains=("food", text),
                history=history,
                partial=(PartialPreference(text, text),),
                profile=text,
                recommended={text: (text, "Rice")},
            ),
        ),
        cross_domain=(CrossDomainExample(text, history, text, (text,)),),
        cold_items=(ColdItemExample(text, text, (ColdItemAudience(text, 2, history),)),),
        drift=Drift(
            since=CREATED,
            domains=(
                DomainDrift(text, 90, 12, 3, 0.75, 1.0, 0.25, None, 0.6, 0.5),
                DomainDrift("food", 30, 0, 0, 0.25, 0.0, None, None, None, None),
            ),
            moments=(CREATED, CREATED + timedelta(days=1), CREATED + timedelta(days=2)),
            volumes=(
                DomainVolume(text, (40, 50, 0), (40, 47, 12)),
                DomainVolume("food", (10, 20, 0), (10, 20, 0)),
            ),
            one_of=1,
        ),
        answers=(
            DayOfAnswers(date(2026, 11, 22), "chat", 100, 40_000),
            DayOfAnswers(date(2026, 11, 22), "embedding", 50, 3_000),
            DayOfAnswers(date(2026, 11, 25), "chat", 10, 4_000),
        ),
        guards=Guards(10, (DomainCoverage(text, 301, 359),), 0.31, 0.4, 1431, 0),
        stages=(
            stage(text, 61.0, 1100, 20, 3, 4000, 500),
            stage("embed", 4.0, 200, 1, 0, 900, 0, is_reused=True),
        ),
        cold_domain=(cold_table(text),),
    )


def stage(name: str, seconds: float, *used: int, is_reused: bool = False) -> StageResult:
    """A stage with the numbers of requests, reused answers, failures, and tokens in and out."""
    fields = ("requests", "reused", "failed", "prompt_tokens", "completion_tokens")
    return StageResult(
        stage=name,
        ref=ArtifactRef(kind=Kind.DATASET, fingerprint="0"),
        reused=is_reused,
        seconds=seconds,
        counts={},
        notes=[],
        usage=LlmUsage(prompts=1, **dict(zip(fields, used, strict=True))),
    )


def cold_table(text: str) -> ColdDomainTable:
    """Ours behind one baseline and ahead of another."""
    return ColdDomainTable(
        direction=f"{text} → kitchen",
        users=1376,
        metrics=("any@10", "first HR@10"),
        rows=(
            ColdDomainRow("llm4cdsr", (0.14, 0.017), None),
            ColdDomainRow(
                "EMCDR", (0.283, 0.093), ((-0.143, -0.17, -0.12), (-0.076, -0.09, -0.06))
            ),
            ColdDomainRow(text, (0.087, 0.017), ((0.053, 0.03, 0.07), (0.0, -0.01, 0.01))),
        ),
    )
