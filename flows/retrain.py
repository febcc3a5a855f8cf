"""The retrain flow: from refreshed artifacts to a model, recommendations and a report."""

from prefect import flow

from artifacts.bundles import ABLATION, create_bundle, latest_refresh, parts_of
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from artifacts.strict import Strict
from flows.operating import OPERATING, ended
from flows.server.end_hooks import alert_end
from flows.settings import Settings
from flows.store_use import uses_store
from tasks.ablate import AblationConfig, ablate
from tasks.alerts.stories import publish_release_summary
from tasks.choose_preset import as_chosen, choose_preset
from tasks.evaluate import EvaluationConfig, evaluate
from tasks.frame.stage import StageResult, StageResults
from tasks.frame.training_config import TrainingConfig
from tasks.frame.training_sources import TrainingSources
from tasks.judge_release import PromotionConfig, judge_release
from tasks.promoting.promotion import hold, promote
from tasks.promoting.release_history import serving_release
from tasks.promoting.verdict import Verdict
from tasks.recommend import RecommendationConfig, recommend
from tasks.report import ReportSources, report
from tasks.tracking.mlflow_releases import follow_serving, record_release
from tasks.train import train

CHOICE = "training_choice"

HELD = "Held"
"""Name of the final state of a run whose model is not served."""


class RetrainConfig(Strict):
    """Settings of the model, its evaluation, recommendations and promotion."""

    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    ablation: AblationConfig = AblationConfig()
    recommendations: RecommendationConfig = RecommendationConfig()
    promotion: PromotionConfig = PromotionConfig()


class Release(StageResults):
    """A release: ``ref`` is the bundle of its artifacts, ``verdict`` the promotion decision; the
    other fields are its stages, ``choice`` None where a preset was named."""

    ref: ArtifactRef
    verdict: Verdict
    choice: StageResult | None = None
    model: StageResult
    metrics: StageResult
    ablation: StageResult | None
    recommendations: StageResult
    report: StageResult


@flow(
    name="retrain",
    flow_run_name="retrain {name}",
    timeout_seconds=OPERATING.flow_timeout_seconds,
    on_completion=[alert_end],
    on_failure=[alert_end],
    on_crashed=[alert_end],
    on_cancellation=[alert_end],
)
@uses_store
def retrain(
    config: RetrainConfig | None = None,
    name: str = "your data",
    refreshed: ArtifactRef | None = None,
    earlier: tuple[StageResult, ...] = (),
    store: str | None = None,
    of_store: str | None = None,
) -> Release:
    """Train, evaluate, ablate, recommend, report, and promote the model unless it is worse.

    A model that does not pass the promotion gate is kept and not served; the run then ends in the
    state ``Held``.

    Args:
        config: all defaults where None.
        name: what the report calls the data.
        refreshed: the refresh to train on; the latest where None.
        earlier: earlier stages of the same run, for the report.
        store: where the artifacts are; LLM4CDSR_STORE where None.
        of_store: store of the event that started the run; for another store the run ends as
            ``Skipped``.
    """
    config = config or RetrainConfig()
    settings = Settings()
    root = store or settings.store
    opened = Store(root)
    source = parts_of(opened, refreshed or latest_refresh(opened))
    sources, training, choice = TrainingSources.of(source), config.training, None
    if training.is_automatic:
        choice = choose_preset(sources, training, root)
        training = as_chosen(opened, choice, training)
    dataset, spent = sources.dataset, 0.0 if choice is None else choice.seconds
    model = train(sources, training, root, spent)
    device = training.device
    metrics = evaluate(dataset, model.ref, config.evaluation, root, device)
    ablation = None
    if config.ablation.users:
        ablation = ablate(sources, training.resolved(), config.ablation, root, device)
    recommendations = recommend(dataset, model.ref, config.recommendations, root, device)
    stages: dict[str, StageResult | None] = {
        CHOICE: choice,
        "model": model,
        "metrics": metrics,
        ABLATION: ablation,
        "recommendations": recommendations,
    }
    finished = {role: stage for role, stage in stages.items() if stage is not None}
    parts = {**source, **{role: stage.ref for role, stage in finished.items()}}
    shown = ReportSources.model_validate(
        {role: ref for role, ref in parts.items() if role in ReportSources.model_fields}
    )
    page = report(shown, name, (*earlier, *finished.values()), root)
    parts.pop(CHOICE, None)  # Models are released, not the choice of their settings.
    release = create_bundle(opened, Kind.RELEASE, {**parts, "report": page.ref})
    before = serving_release(opened)
    verdict = judge_release(release, config.promotion, root)
    (promote if verdict.promoted else hold)(opened, release, verdict.summary)
    record_release(opened, release, name, outcome_of(verdict), settings.mlflow_uri)
    if verdict.promoted:
        follow_serving(release, settings.mlflow_uri)
    done = Release(
        ref=release,
        verdict=verdict,
        choice=choice,
        model=model,
        metrics=metrics,
        ablation=ablation,
        recommendations=recommendations,
        report=page,
    )
    publish_release_summary(opened, release, before, verdict, done.stages, settings.serve_url)
    return ended(done, f"{outcome_of(verdict)}: {verdict.summary}", state_name(verdict))


def outcome_of(verdict: Verdict) -> str:
    """Returns a short text about the promotion of a model."""
    return "served from now on" if verdict.promoted else "not served"


def state_name(verdict: Verdict) -> str | None:
    """Returns the name of the final state for a verdict, None for the default."""
    return None if verdict.promoted else HELD
