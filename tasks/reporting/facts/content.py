"""Content of a report: facts of one run, without formatting or store.

All except the first fields are optional; the page replaces missing ones by a sentence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import polars as pl

from artifacts.kinds.ablation import AblationRow
from tasks.frame.stage import StageResult
from tasks.promoting.baseline_lead import BaselineLead
from tasks.reporting.facts.drift import Drift

LEARNING_COLUMNS = ("epoch", "loss", "validation_ndcg", "validation_hr", "seconds")


@dataclass(frozen=True)
class DomainFacts:
    """Counts of one domain; `items_never_bought` have no event in any split."""

    name: str
    users: int
    items: int
    events: int
    items_without_text: int = 0
    items_never_bought: int = 0


@dataclass(frozen=True)
class DatasetFacts:
    """The dataset after ingest; `history_lengths` has one row per length: (length, users);
    `dropped`: dropped and quarantined rows by reason."""

    users: int
    items: int
    events: int
    domains: tuple[DomainFacts, ...]
    overlapping_users: int
    single_domain_users: int
    history_lengths: pl.DataFrame
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ClusterFacts:
    """One cluster of item embeddings; `domain_shares` are fractions that sum to 1."""

    cluster: str
    items: int
    domain_shares: Mapping[str, float]
    examples: tuple[str, ...]


@dataclass(frozen=True)
class HistoryEvent:
    """One event of a history; histories are oldest first."""

    domain: str
    title: str


@dataclass(frozen=True)
class PartialPreference:
    """Partial interest of one cluster of a user's history (METHOD 3)."""

    cluster: str
    text: str


@dataclass(frozen=True)
class ProfileExample:
    """A user's history, profile and recommendations.

    `recommended` maps a domain to titles, best first.
    """

    user_id: str
    domains: tuple[str, ...]
    history: tuple[HistoryEvent, ...]
    partial: tuple[PartialPreference, ...]
    profile: str | None
    recommended: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class CrossDomainExample:
    """A user of one domain, with recommendations in another domain."""

    user_id: str
    history: tuple[HistoryEvent, ...]
    new_domain: str
    recommended: tuple[str, ...]


@dataclass(frozen=True)
class ColdItemAudience:
    """A user with a cold item in the recommendations, at `rank` (1 is the best)."""

    user_id: str
    rank: int
    history: tuple[HistoryEvent, ...]


@dataclass(frozen=True)
class ColdItemExample:
    """An item without purchases, and the users to whom it is recommended."""

    title: str
    domain: str
    audience: tuple[ColdItemAudience, ...]


@dataclass(frozen=True)
class DomainCoverage:
    """Share of a domain's catalogue in at least one recommendation list."""

    domain: str
    recommended_items: int
    items: int


@dataclass(frozen=True)
class Guards:
    """Properties of recommendations beyond accuracy.

    `popular_slot_share` is the fraction of all recommended places held by the most popular
    `popular_fraction` of items; `popular_event_share` is those items' fraction of the training
    events, the level to compare with. `index_recall` is the lowest recall of an index against
    the exact lists of a domain; None where every item was scored.
    """

    list_length: int
    coverage: tuple[DomainCoverage, ...]
    popular_slot_share: float
    popular_event_share: float | None
    users: int
    users_without_recommendations: int
    popular_fraction: float = 0.1
    index_recall: float | None = None


@dataclass(frozen=True)
class HeldOut:
    """Numbers of held-out events and of their users."""

    events: int
    users: int

    @property
    def is_last_events(self) -> bool:
        """Whether each user has one test event."""
        return self.events == self.users


@dataclass(frozen=True)
class MetricInterval:
    """One model's value, and the low and high end of its 95 % interval, of two metrics.

    `behind_ours` is our NDCG minus this model's, None for ours.
    """

    model: str
    ndcg: tuple[float, float, float]
    hit_ratio: tuple[float, float, float]
    behind_ours: tuple[float, float, float] | None


@dataclass(frozen=True)
class ColdDomainRow:
    """One model's values of the table's metrics; `leads` are our values minus these, with the low
    and high end of a 95 % interval, None for ours."""

    model: str
    values: tuple[float, ...]
    leads: tuple[tuple[float, float, float], ...] | None


@dataclass(frozen=True)
class ColdDomainTable:
    """Metrics of withheld domains; the model is first."""

    direction: str
    users: int
    metrics: tuple[str, ...]
    rows: tuple[ColdDomainRow, ...]


@dataclass(frozen=True)
class AblationFacts:
    """An ablation on a sample of `users` of `of_users`; `findings` are its sentences."""

    users: int
    of_users: int
    rows: tuple[AblationRow, ...]
    findings: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One count before and now; None if the older release lacks it."""

    name: str
    before: float | None
    now: float | None


@dataclass(frozen=True)
class Changes:
    """Differences from the previously served release.

    `kept_share` is of the places recommended to `common_users`; None without such users.
    """

    since: datetime
    same_data: bool
    rows: tuple[Change, ...]
    kept_share: float | None
    common_users: int


@dataclass(frozen=True)
class Concentration:
    """How few items of a domain have most of its events: ``points`` are (share of the items, most
    bought first; their share of the training events), from (0, 0) to (1, 1)."""

    name: str
    points: tuple[tuple[float, float], ...]

    def share_of_top(self, items: float) -> float:
        """Returns the share of events of the most bought share of items."""
        return next((events for share, events in self.points if share >= items - 1e-9), 1.0)


@dataclass(frozen=True)
class ReleaseFigure:
    """One decided release: ``ndcg`` is NDCG@10 on its own held-out events."""

    name: str
    made: datetime
    decision: str
    ndcg: float


@dataclass(frozen=True)
class Transitions:
    """Counts of transitions from the row's domain to the column's."""

    domains: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class DayOfAnswers:
    """Answers of one role that the ledger received on one day (UTC), and their tokens."""

    day: date
    role: str
    answers: int
    tokens: int


@dataclass(frozen=True)
class Bridge:
    """A pair of items of different domains; `similarity` is the cosine of their embeddings."""

    domains: tuple[str, str]
    titles: tuple[str, str]
    similarity: float


@dataclass(frozen=True)
class ReportContent:
    """All content of one report.

    Frames: `learning_curve` (epoch, loss, validation_ndcg, validation_hr, seconds); `metrics`
    (model, ranking 'full' or 'sampled', domain or 'all', group or 'all', metric such as
    'NDCG@10', value as a fraction, targets); `item_map` (x, y, title, domain, cluster).
    `origin` names the artifacts, the version and the machine that made the report.
    `left_out` held-out events have too few candidates to be measured.
    `sampled_candidates` is the number of random items in the sampled ranking beside the target.
    `stages` are those of the run, with their times and LLM usage.
    """

    title: str
    created: datetime
    dataset_name: str
    dummy: bool
    chat_model: str | None = None
    embedding_model: str | None = None
    settings: tuple[tuple[str, str], ...] = ()
    dataset: DatasetFacts | None = None
    learning_curve: pl.DataFrame | None = None
    metrics: pl.DataFrame | None = None
    held_out: HeldOut | None = None
    left_out: int = 0
    sampled_candidates: int = 100
    item_map: pl.DataFrame | None = None
    clusters: tuple[ClusterFacts, ...] = ()
    profiles: tuple[ProfileExample, ...] = ()
    cross_domain: tuple[CrossDomainExample, ...] = ()
    cold_items: tuple[ColdItemExample, ...] = ()
    guards: Guards | None = None
    stages: tuple[StageResult, ...] = ()
    intervals: tuple[MetricInterval, ...] = ()
    lead: BaselineLead | None = None
    changes: Changes | str = ""
    """A sentence if there is no earlier release to compare with."""
    drift: Drift | None = None
    bridges: tuple[Bridge, ...] = ()
    cold_domain: tuple[ColdDomainTable, ...] = ()
    ablation: AblationFacts | None = None
    transitions: Transitions | None = None
    concentration: tuple[Concentration, ...] = ()
    releases: tuple[ReleaseFigure, ...] = ()
    answers: tuple[DayOfAnswers, ...] = ()
    origin: tuple[tuple[str, str], ...] = ()
