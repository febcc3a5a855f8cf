"""The retrain flow: refreshed artifacts become a model, its recommendations and a report."""

from prefect import flow
from pydantic import BaseModel, ConfigDict

from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from flows.settings import Settings
from tasks.bundle import SERVING, bundle, latest_refresh, parts_of
from tasks.evaluate import EvaluationConfig, evaluate
from tasks.recommend import RecommendationConfig, recommend
from tasks.report import ReportSources, report
from tasks.stage import StageResult
from tasks.train import TrainingConfig, train


class RetrainConfig(BaseModel):
    """Everything that shapes the model and what comes of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    recommendations: RecommendationConfig = RecommendationConfig()


class Release(BaseModel):
    """A served model: ``ref`` bundles its artifacts; the stages say how it came about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ref: ArtifactRef
    model: StageResult
    metrics: StageResult
    recommendations: StageResult
    report: StageResult

    @property
    def stages(self) -> tuple[StageResult, ...]:
        return (self.model, self.metrics, self.recommendations, self.report)


@flow(name="retrain", flow_run_name="retrain: {name}")
def retrain(
    config: RetrainConfig | None = None,
    name: str = "your data",
    refreshed: ArtifactRef | None = None,
    earlier: tuple[StageResult, ...] = (),
    store: str | None = None,
) -> Release:
    """Train, evaluate, recommend, report, promote.

    Args:
        config: all defaults where None.
        name: what the report calls the data.
        refreshed: the refresh to train on; the latest where None.
        earlier: stages of the same run that the report should tell of.
        store: where the artifacts are; LLM4CDSR_STORE where None.
    """
    config = config or RetrainConfig()
    root = store or Settings().store
    opened = Store(root)
    source = parts_of(opened, refreshed or latest_refresh(opened))
    dataset = source["dataset"]

    model = train(dataset, source["tables"], source["profiles"], config.training, root)
    metrics = evaluate(dataset, model.ref, config.evaluation, root)
    recommendations = recommend(dataset, model.ref, config.recommendations, root)
    made = {
        "model": model.ref,
        "metrics": metrics.ref,
        "recommendations": recommendations.ref,
    }
    sources = ReportSources.model_validate(
        {role: ref for role, ref in {**source, **made}.items() if role != "tables"}
    )
    page = report(sources, name, (*earlier, model, metrics, recommendations), root)
    release = bundle(opened, Kind.RELEASE, SERVING, {**source, **made, "report": page.ref})
    return Release(
        ref=release,
        model=model,
        metrics=metrics,
        recommendations=recommendations,
        report=page,
    )
