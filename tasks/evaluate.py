"""Stage 7, model to metrics: the same held-out events for the model and its baselines (METHOD 6).

Full ranking over the target's whole domain is the main figure; the paper reports ranking among 100
sampled candidates, which are fixed by a seed for all models.
"""

import json
from collections import Counter

import numpy as np
import polars as pl
from pydantic import Field

from artifacts import columns as col
from artifacts.drafts import Draft
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.results import (
    COLD_DOMAIN,
    FULL,
    METRIC_SCHEMA,
    METRICS,
    METRICS_JSON,
    OUR_MODEL,
    RANKS,
    SAMPLED,
    quoted_figures,
    read_candidates,
    write_candidates,
)
from artifacts.manifest import ArtifactRef, Identity, Kind, identity
from artifacts.store import Store
from artifacts.strict import Strict
from model.baselines.registry import EMCDR, POPULARITY, baselines, cold_baselines
from model.checkpoint import load_model
from model.data.sequences import TEST, IntArray, Prefixes, Sequences
from model.scoring import measurable
from model.scoring.cold_domain_metrics import ANY_HIT, FIRST_HIT
from model.scoring.groups import metric_groups
from model.scoring.model_scorer import ModelScorer, Scorer
from model.scoring.ranking import (
    Ranks,
    rank_all,
    rank_sampled,
    ranking_metrics,
    sample_candidates,
)
from model.training.processes import alone
from tasks.frame.model_inputs import load_sequences
from tasks.frame.progress import progress
from tasks.frame.stage import StageResult, run_stage, stage_task
from tasks.promoting.stored_ranks import rank_rows
from tasks.reporting.facts.withheld_domains import (
    cold_metrics,
    gains_of,
    ranked,
    sampled_users,
    withheld_items,
)

CUTOFFS = (5, 10, 20)

RANK_SCHEMA = pl.Schema(
    {
        col.USER_INDEX: pl.Int64,
        col.ITEM_INDEX: pl.Int64,
        "greater": pl.Int64,
        "equal": pl.Int64,
        "candidates": pl.Int64,
        "model": pl.String,
        "ranking": pl.String,
    }
)
"""One row per held-out event, model and ranking: numbers of candidates with a higher and with an
equal score, and of all candidates. In withheld domains each item has a row, the first withheld
event first."""


NOTHING_HELD_OUT = (
    "no held-out event follows another event of its user, so the quality is not known: a user "
    "needs 3 events to hold one out, under a split by time or by user an event before the test"
)


class EvaluationConfig(Strict):
    """Settings of the evaluation."""

    candidates: int = Field(
        default=100, ge=1, description="Candidates of the sampled ranking; 100 as in the paper."
    )
    more_candidates: int | None = Field(
        default=None,
        ge=1,
        description="Candidates of a second sampled ranking, such as 999; none by default.",
    )
    max_events: int | None = Field(
        default=None,
        ge=1,
        description="Rank a seeded sample of this many held-out events, if full ranking takes too "
        "long. By default all.",
    )
    seed: int = Field(default=0, description="Seed of sampled candidates and events.")

    def sampled_rankings(self) -> dict[str, int]:
        """Returns the number of candidates of each sampled ranking, by the ranking's name."""
        more = self.more_candidates
        wide = {} if more is None else {f"{SAMPLED}-{more}": more}
        return {SAMPLED: self.candidates, **wide}


@stage_task("evaluate")
def evaluate(
    dataset: ArtifactRef,
    model: ArtifactRef,
    config: EvaluationConfig,
    store_root: str,
    device: str = "cpu",
) -> StageResult:
    """Returns metrics (`METRIC_SCHEMA`) of the model and of every baseline, with all ranks.

    The candidates of sampled rankings are an artifact of the dataset, equal for all models and
    runs. If no user has the three events required by leave-one-out, there are no metrics but a
    note. Unmeasurable events (`model.scoring.measurable`) are excluded and counted; metrics without
    measurable events are null. In withheld domains (METHOD 9) all items are ranked, with separate
    baselines. ``device`` is where scores are computed, as in `TrainingConfig`.
    """
    store = Store(store_root)
    left_out = _left_out(store, dataset)
    parameters = config.model_dump(mode="json")
    if left_out:  # Other evaluations keep their identity of older versions.
        parameters["least_candidates"] = measurable.LEAST_CANDIDATES
    wanted = identity(Kind.METRICS, parameters, {"dataset": dataset, "model": model})

    def make(draft: Draft) -> None:
        fitted, card = load_model(store.path(model), alone(device).device)
        sequences = load_sequences(store, dataset)
        if card.config.train.refit:
            # A model refitted on validation events is compared with baselines fitted likewise.
            sequences = sequences.with_validation_in_training()
        ours = {OUR_MODEL: ModelScorer(fitted)}
        scorers = {**ours, **baselines(sequences)}
        candidates = {
            ranking: read_candidates(store, stored_candidates(store, dataset, count, config.seed))
            for ranking, count in config.sampled_rankings().items()
        }
        metrics, ranks = measure(scorers, sequences, candidates, asked_events(sequences, config))
        users = _measurable_users(sequences, config)
        if len(users):
            cold = {**ours, **cold_baselines(sequences, None)}
            found = measure_withheld(cold, sequences, users)
            metrics, ranks = (pl.concat(pair) for pair in zip((metrics, ranks), found, strict=True))
            draft.counts.update({"cold_users": len(users), **cold_headline(metrics)})
        metrics.write_parquet(draft.path / METRICS)
        ranks.write_parquet(draft.path / RANKS)
        quoted = json.dumps(quoted_figures(metrics), indent=2) + "\n"
        (draft.path / METRICS_JSON).write_text(quoted, "utf-8")
        draft.notes.extend(store.manifest(model).notes)
        if metrics.is_empty() and not left_out:
            draft.notes.append(NOTHING_HELD_OUT)
        elif not metrics.filter(ranking=FULL).is_empty():
            draft.counts.update(headline(metrics))
            held_out = len(sequences.prefixes_of_split(TEST))
            if held_out - sum(left_out.values()) > draft.counts["targets"]:
                draft.notes.append(
                    f"measured on {draft.counts['targets']:,} of {held_out:,} held-out events"
                )
        if left_out:
            draft.counts["left_out"] = sum(left_out.values())
            draft.notes.append(_told_left_out(left_out, len(_held_out(sequences))))

    return run_stage(store, "evaluate", wanted, make)


def stored_candidates(store: Store, dataset: ArtifactRef, count: int, seed: int) -> ArtifactRef:
    """Returns ``count`` unseen items per test event, sampled if not stored yet: the candidates of
    sampled rankings for all models (METHOD 7.12).

    Rows are in the order of test events by user. A row depends on seed, user and position only.
    """
    wanted = candidates_identity(dataset, count, seed)

    def make(draft: Draft) -> None:
        sequences = load_sequences(store, dataset)
        prefixes = sequences.prefixes_of_split(TEST)
        drawn = sample_candidates(sequences, prefixes, count, seed)
        write_candidates(draft.path, drawn)
        draft.counts.update({"test_events": len(prefixes), "candidates": count})

    return run_stage(store, f"draw {count} candidates", wanted, make).ref


def candidates_identity(dataset: ArtifactRef, count: int, seed: int) -> Identity:
    """Returns the identity of candidates: dataset, number, seed."""
    return identity(Kind.CANDIDATES, {"count": count, "seed": seed}, {"dataset": dataset})


def asked_events(sequences: Sequences, config: EvaluationConfig) -> IntArray:
    """Returns the indices of the measurable held-out events to rank, ascending."""
    rng = np.random.default_rng(config.seed)
    prefixes = sequences.prefixes_of_split(TEST)
    places = np.flatnonzero(measurable.is_measurable(prefixes))
    return places[prefixes.select(places).sampled_rows(config.max_events, rng)]


def _measurable_users(sequences: Sequences, config: EvaluationConfig) -> IntArray:
    """Returns users with a measurable withheld test domain, at most a seeded sample."""
    withheld = withheld_items(sequences)
    users = np.unique(withheld.users[measurable.is_measurable(withheld)])
    return sampled_users(sequences, config.max_events, config.seed, users)


def _held_out(sequences: Sequences) -> IntArray:
    """Returns all held-out targets, including withheld domains."""
    withheld = withheld_items(sequences)
    return np.concatenate((sequences.prefixes_of_split(TEST).targets, withheld.targets))


def _left_out(store: Store, dataset: ArtifactRef) -> dict[str, int]:
    """Returns the unmeasurable held-out events by domain; checked only for domains of which a user
    may have seen nearly all items."""
    data = read_dataset(store, dataset)
    longest = int(np.diff(data.offsets).max(initial=0))
    if np.diff(data.domain_starts).min() - 1 - longest >= measurable.LEAST_CANDIDATES:
        return {}
    sequences = load_sequences(store, dataset)
    found: Counter[str] = Counter()
    for prefixes in (sequences.prefixes_of_split(TEST), withheld_items(sequences)):
        found.update(measurable.unmeasured_by_domain(prefixes))
    return dict(found)


def _told_left_out(left_out: dict[str, int], held_out: int) -> str:
    domains = ", ".join(f"{count:,} of {domain}" for domain, count in sorted(left_out.items()))
    return (
        f"{sum(left_out.values()):,} of {held_out:,} held-out events have fewer than "
        f"{measurable.LEAST_CANDIDATES} candidates and are left out of all figures ({domains}): "
        "any model ranks these well"
    )


def measure(
    scorers: dict[str, Scorer],
    sequences: Sequences,
    candidates: dict[str, IntArray],
    asked: IntArray | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Returns metrics, and the ranks of every held-out event by every scorer.

    ``candidates`` (test events, candidates): of each sampled ranking, by name; ``asked``: indices
    of the events to rank, all if None.
    """
    held_out = prefixes = sequences.prefixes_of_split(TEST)
    if asked is not None:
        prefixes = prefixes.select(asked)
        candidates = {ranking: drawn[asked] for ranking, drawn in candidates.items()}
    unknown = _unknown_rows(scorers, (FULL, *candidates), held_out, prefixes)
    if not len(prefixes):
        return unknown, pl.DataFrame(schema=RANK_SCHEMA)
    groups = metric_groups(prefixes)
    metrics, ranks = [], []
    with progress("evaluate", (1 + len(candidates)) * len(scorers)) as bar:
        for name, scorer in scorers.items():
            for ranking in (FULL, *candidates):
                found = (
                    rank_all(scorer, prefixes)
                    if ranking == FULL
                    else rank_sampled(scorer, prefixes, candidates[ranking])
                )
                metrics += _metric_rows(name, ranking, found, groups, sequences)
                rows = rank_rows(found, prefixes.targets)
                ranks.append(rows.with_columns(model=pl.lit(name), ranking=pl.lit(ranking)))
                bar.advance(1, name)
    measured = pl.DataFrame(metrics, schema=METRIC_SCHEMA, orient="row")
    return pl.concat((measured, unknown)), pl.concat(ranks)


def _unknown_rows(
    scorers: dict[str, Scorer], rankings: tuple[str, ...], held_out: Prefixes, measured: Prefixes
) -> pl.DataFrame:
    """Returns null rows for domains with held-out events but no measured one."""
    names = held_out.sequences.domain_names
    domain_of = held_out.sequences.domain_of
    some, none = (set(domain_of(rows.targets).tolist()) for rows in (held_out, measured))
    places = [*(["all"] if some and not none else []), *(names[d] for d in sorted(some - none))]
    rows = [
        (model, ranking, place, "all", f"{metric}@{cutoff}", None, 0)
        for model in scorers
        for ranking in rankings
        for place in places
        for metric in ("NDCG", "HR", "MRR")
        for cutoff in CUTOFFS
    ]
    return pl.DataFrame(rows, schema=METRIC_SCHEMA, orient="row")


def measure_withheld(
    scorers: dict[str, Scorer], sequences: Sequences, users: IntArray | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Returns the metrics of withheld domains, and the ranks of every withheld item by every
    scorer, for all users with a withheld test domain or a sample."""
    withheld = withheld_items(sequences, users)
    gains, ranks = {}, []
    with progress("evaluate withheld domains", len(scorers)) as bar:
        for name, scorer in scorers.items():
            found = ranked(scorer, withheld)
            gains[name] = gains_of(found, withheld)
            ranks.append(found.with_columns(model=pl.lit(name), ranking=pl.lit(COLD_DOMAIN)))
            bar.advance(1, name)
    return cold_metrics(gains, sequences.domain_names), pl.concat(ranks)


def cold_headline(metrics: pl.DataFrame) -> dict[str, float]:
    """Returns the headline of withheld domains: model and EMCDR, all directions."""
    whole = metrics.filter(ranking=COLD_DOMAIN, domain="all", group="all")
    return {
        f"{metric} {model}": round(value, 4)
        for model, metric, value in whole.select("model", "metric", "value").iter_rows()
        if metric in (ANY_HIT, FIRST_HIT) and model in (OUR_MODEL, EMCDR)
    }


def headline(metrics: pl.DataFrame) -> dict[str, int | float]:
    """Returns full-ranking NDCG@10 and HR@10 of the model and of popularity, and the targets."""
    whole = metrics.filter(ranking=FULL, domain="all", group="all")
    found = {
        f"{metric} {model}": round(value, 4)
        for model, metric, value in whole.select("model", "metric", "value").iter_rows()
        if metric in ("NDCG@10", "HR@10") and model in (OUR_MODEL, POPULARITY) and value is not None
    }
    return {"targets": int(whole["targets"].max() or 0), **found}  # pyright: ignore[reportArgumentType]


MetricRow = tuple[str, str, str, str, str, float, int]


def _metric_rows(
    name: str, ranking: str, ranks: Ranks, groups: dict[str, np.ndarray], sequences: Sequences
) -> list[MetricRow]:
    rows: list[MetricRow] = []
    for group, in_group in groups.items():
        for number, domain in [(None, "all"), *enumerate(sequences.domain_names)]:
            in_domain = in_group if number is None else in_group & (ranks.domains == number)
            rows += _metrics_of(ranks.select(in_domain), (name, ranking, domain, group))
    return rows


def _metrics_of(ranks: Ranks, key: tuple[str, str, str, str]) -> list[MetricRow]:
    if not len(ranks.users):
        return []
    found = ranking_metrics(ranks, CUTOFFS)
    by_name = {"NDCG": found.ndcg, "HR": found.hit_rate, "MRR": found.reciprocal_rank}
    return [
        (*key, f"{metric}@{cutoff}", values[cutoff], found.count)
        for metric, values in by_name.items()
        for cutoff in CUTOFFS
    ]
