"""Promotion gate: comparison of a new model with the served one, and limits of its lists.

Comparisons, from the strongest to the weakest basis:

1. One dataset: the validation NDCG@10 of both trainings, ranked equally, with the same split and
   events.
2. The data changed, a training recorded none, or one ranked only a sample of users or items: both
   models rank the same held-out events of the new data, on which neither was trained
   (`tasks.promoting.rematch`).
3. The served model cannot rank the new data (other embeddings, missing artifacts): the recorded
   figures if they were ranked equally, flagged as measured on different events.

A first model is held if a baseline is significantly better (`tasks.promoting.baseline_lead`),
unless `serve_anyway` is set; for later models this is reported only.

No comparison is made without a served model, with a served model of another catalogue, or without
held-out events; then only user coverage, the limits of `tasks.promoting.quality_guards` and the
users who would lose their recommendations (`tasks.promoting.kept_users`) decide.
"""

from dataclasses import dataclass

from pydantic import Field

from artifacts import columns as col
from artifacts.bundles import parts_of
from artifacts.integrity import ArtifactError
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.results import RANKS, read_table, scan_recommendations
from artifacts.manifest import ArtifactRef, Manifest
from artifacts.store import Store
from artifacts.strict import Strict
from tasks.frame.stage import stage_task
from tasks.promoting.baseline_lead import BaselineLead, baseline_lead
from tasks.promoting.kept_users import lost_users
from tasks.promoting.quality_guards import GuardThresholds, guard_violations
from tasks.promoting.release_history import history, serving_release, withdrawn_models
from tasks.promoting.rematch import CatalogueMismatchError, NotComparableError, Parts, rematch
from tasks.promoting.verdict import Verdict

VALIDATION_NDCG = "validation_ndcg"
"""Name of a manifest's count with the NDCG@10 of the best epoch."""


class PromotionConfig(Strict):
    """Settings of automatic promotion."""

    gate: bool = Field(default=True, description="False serves every model.")
    margin: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="Allowed relative loss of NDCG@10, to tolerate noise.",
    )
    min_user_coverage: float = Field(
        default=0.95, ge=0, le=1, description="Minimum share of users with recommendations."
    )
    min_kept_users: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Minimum share of the served release's users in each of its domains who keep "
        "recommendations; not checked if fewer than half of the new items are known.",
    )
    guards: GuardThresholds = Field(
        default=GuardThresholds(),
        description="Limits for the counts of the recommendations.",
    )
    serve_anyway: bool = Field(
        default=False,
        description="Serve a first model even if a baseline is significantly better.",
    )
    max_events: int = Field(
        default=50_000, ge=1, description="Maximum events that both models rank after a new dump."
    )


@dataclass(frozen=True)
class GateComparison:
    """NDCG@10 of both models, None without a comparison. ``basis``: kind of comparison."""

    served: float | None
    candidate: float | None
    basis: str

    @property
    def change(self) -> float | None:
        """Relative gain of the candidate."""
        if self.served is None or self.candidate is None or not self.served > 0:
            return None
        return self.candidate / self.served - 1


@stage_task("promotion gate")
def judge_release(candidate: ArtifactRef, config: PromotionConfig, store_root: str) -> Verdict:
    """Returns the verdict whether a release may replace the served one."""
    store = Store(store_root)
    serving = serving_release(store)
    parts = parts_of(store, candidate)
    if serving is None:
        comparison = GateComparison(None, None, "nothing was served before")
    elif serving == candidate:
        comparison = GateComparison(None, None, "the same release as the one in use")
    else:
        comparison = compare(store, serving, parts, config.max_events)
    counts = store.manifest(parts["recommendations"]).counts
    broken = tuple(
        f"recommendations: {sentence}" for sentence in guard_violations(counts, config.guards)
    )
    if serving is not None:
        broken += lost_users(store, serving, parts, config.min_kept_users)
        broken += _withdrawn(store, parts)
    lead = baseline_lead(read_table(store, parts["metrics"], RANKS)) if "metrics" in parts else None
    beaten = lead if serving is None and not config.serve_anyway else None
    verdict = judge(comparison, user_coverage(store, parts), config, broken, beaten)
    return verdict.model_copy(update={"lead": lead})


def _withdrawn(store: Store, parts: Parts) -> tuple[str, ...]:
    """Returns a sentence if the release of the same model was rolled back."""
    entry = withdrawn_models(history(store)).get(parts["model"])
    if entry is None:
        return ()
    return (f"a release of this model was rolled back on {entry.at:%Y-%m-%d} ({entry.reason})",)


def compare(
    store: Store, serving: ArtifactRef, candidate: Parts, max_events: int
) -> GateComparison:
    """Compares a candidate with the served release, on the strongest available basis."""
    try:
        served = parts_of(store, serving)
        old, new = _validation_figures(store, served, candidate)
    except ArtifactError as error:
        return GateComparison(None, None, f"the served release cannot be read ({error.args[0]})")
    if served["dataset"] == candidate["dataset"] and old is not None and new is not None:
        return GateComparison(old, new, "validation events of one split")
    try:
        found = rematch(store, served, candidate, max_events)
    except CatalogueMismatchError as error:
        return GateComparison(None, None, f"not compared: {error}")
    except NotComparableError as error:
        return _recorded(old, new, str(error))
    basis = f"both models on {found.targets:,} {found.split} events that neither was trained on"
    return GateComparison(found.served, found.candidate, basis)


def judge(
    comparison: GateComparison,
    coverage: float,
    config: PromotionConfig,
    broken: tuple[str, ...] = (),
    beaten: BaselineLead | None = None,
) -> Verdict:
    """Applies margin, coverage and limits; with ``gate=False`` the findings are reported only.

    ``broken`` are sentences about broken limits of the lists. ``beaten`` is a lead that holds the
    release if the baseline is significantly better, None if baselines do not decide.
    """
    against = []
    if beaten is not None and beaten.is_behind:
        against.append(beaten.sentence)
    served, candidate = comparison.served, comparison.candidate
    if served is not None and candidate is not None and candidate < served * (1 - config.margin):
        against.append(
            f"NDCG@10 {candidate:.4f} against {served:.4f} of the served model, more than "
            f"{config.margin:.0%} worse ({comparison.basis})"
        )
    if coverage < config.min_user_coverage:
        against.append(
            f"recommendations for {coverage:.1%} of the users, less than "
            f"{config.min_user_coverage:.1%}"
        )
    against += broken
    return Verdict(
        promoted=not against or not config.gate,
        reasons=tuple(against),
        basis=comparison.basis,
        served_ndcg=served,
        candidate_ndcg=candidate,
        user_coverage=coverage,
    )


def user_coverage(store: Store, parts: Parts) -> float:
    """Returns the share of the dataset's users who have at least one recommendation."""
    users = read_dataset(store, parts["dataset"]).users.height
    table = scan_recommendations(store, parts["recommendations"])
    listed = table.select(col.USER_ID).unique().collect(engine="streaming").height
    return listed / users if users else 0.0


def _recorded(old: float | None, new: float | None, why_not_asked: str) -> GateComparison:
    if old is None or new is None:
        return GateComparison(None, None, f"not compared: {why_not_asked}")
    return GateComparison(old, new, f"recorded figures of other events: {why_not_asked}")


def _validation_figures(
    store: Store, served: Parts, candidate: Parts
) -> tuple[float | None, float | None]:
    """Returns the recorded NDCG@10 of both; None if they were ranked among other items or users."""
    old, new = (store.manifest(parts["model"]) for parts in (served, candidate))
    if _validated_on(old) != _validated_on(new):
        return None, None
    return old.counts.get(VALIDATION_NDCG), new.counts.get(VALIDATION_NDCG)


def _validated_on(model: Manifest) -> tuple[object, ...]:
    """Returns the validation settings that must be equal: sampled candidates increase NDCG@10
    several-fold."""
    train = model.parameters.get("train")
    settings = train if isinstance(train, dict) else {}
    sampled = settings.get("validation_candidates"), settings.get("validation_users")
    return *sampled, settings.get("seed") if any(
        sampled
    ) else None  # The seed determines both samples.
