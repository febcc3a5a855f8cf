"""Stage 9, artifacts to a report: one HTML file."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.drafts import Draft
from artifacts.kinds.ablation import ABLATION, read_ablation
from artifacts.kinds.clusters import central_titles, read_cluster_names, read_clusters
from artifacts.kinds.dataset import DROPPED, Dataset, read_dataset
from artifacts.kinds.item_vectors import read_item_embeddings
from artifacts.kinds.results import (
    LEARNING_CURVE,
    METRICS,
    OUR_MODEL,
    RANKS,
    REPORT,
    read_table,
    scan_recommendations,
)
from artifacts.kinds.training_choice import read_training_choice
from artifacts.kinds.user_profiles import model_of, read_user_profiles
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.shown_users import BY_ID, SHOWN_PARAMETER, ShownAs, ShownUsers, shown_users
from artifacts.store import Store
from artifacts.strict import Strict
from prompts.render import one_line
from tasks.ablation.findings import findings
from tasks.frame.number_texts import TIME_BUDGET
from tasks.frame.stage import StageResult, run_stage, stage_task
from tasks.llm.providers.endpoints import DUMMY_NOTE
from tasks.promoting.baseline_lead import baseline_lead
from tasks.reporting.facts.changes import changes_since_served
from tasks.reporting.facts.cold_domain_tables import cold_domain_tables
from tasks.reporting.facts.content import (
    AblationFacts,
    ClusterFacts,
    DatasetFacts,
    DomainFacts,
    ReportContent,
)
from tasks.reporting.facts.drift import drift_since_served
from tasks.reporting.facts.examples import (
    bridges,
    cold_items,
    cross_domain,
    guards,
    profile_examples,
)
from tasks.reporting.facts.history_facts import (
    answers_by_day,
    concentration_of,
    origin_of,
    releases_until,
    transitions_of,
)
from tasks.reporting.facts.intervals import held_out, metric_intervals
from tasks.reporting.model_card import MODEL_CARD, render_model_card
from tasks.reporting.page import render_report

MAP_ITEMS = 1_500
"""Maximum items of t-SNE, which takes minutes for more; a seeded sample is used."""

CLUSTER_EXAMPLES = 4


class ReportSources(Strict):
    """Artifacts of a report."""

    dataset: ArtifactRef
    embeddings: ArtifactRef
    clusters: ArtifactRef
    profiles: ArtifactRef
    model: ArtifactRef
    metrics: ArtifactRef
    recommendations: ArtifactRef
    cluster_names: ArtifactRef | None = None
    ablation: ArtifactRef | None = None
    training_choice: ArtifactRef | None = None


@stage_task("report")
def report(
    sources: ReportSources, name: str, stages: tuple[StageResult, ...], store_root: str
) -> StageResult:
    """Returns the report of a run; ``stages`` have its times and LLM usage.

    A report is made once for the same artifacts, with times and costs of the run that made them.
    """
    store = Store(store_root)
    given = {role: getattr(sources, role) for role in ReportSources.model_fields}
    parents = {role: ref for role, ref in given.items() if ref is not None}
    shown = shown_users(store)
    hashed = {SHOWN_PARAMETER: ShownAs.HASHED.value} if shown.are_hashed else {}
    wanted = identity(Kind.REPORT, {"name": name, **hashed}, parents)

    def make(draft: Draft) -> None:
        origin = origin_of(wanted.fingerprint, parents)
        content = replace(report_content(store, sources, name, stages, shown), origin=origin)
        (draft.path / REPORT).write_text(render_report(content), encoding="utf-8")
        (draft.path / MODEL_CARD).write_text(render_model_card(content), encoding="utf-8")

    return run_stage(store, "report", wanted, make)


def report_content(
    store: Store,
    sources: ReportSources,
    name: str,
    stages: tuple[StageResult, ...],
    shown: ShownUsers = BY_ID,
) -> ReportContent:
    """Returns the facts of all artifacts of a run, with users by their shown names."""
    data = read_dataset(store, sources.dataset)
    profiles = read_user_profiles(store, sources.profiles)
    clusters = read_clusters(store, sources.clusters)
    labels = cluster_labels(data, clusters, _names(store, sources.cluster_names))
    recommended = scan_recommendations(store, sources.recommendations)
    listed = store.manifest(sources.recommendations)
    profile_parameters = store.manifest(sources.profiles).parameters
    vectors = read_item_embeddings(store, sources.embeddings).vectors
    ranks = read_table(store, sources.metrics, RANKS)
    return ReportContent(
        title=f"Recommendations for {name}",
        created=datetime.now(UTC),
        dataset_name=name,
        dummy=DUMMY_NOTE in listed.notes,
        chat_model=model_of(profile_parameters["chat"]),
        embedding_model=model_of(profile_parameters["embedding"]),
        settings=_settings(store, sources),
        dataset=_dataset_facts(data, read_table(store, sources.dataset, DROPPED)),
        learning_curve=read_table(store, sources.model, LEARNING_CURVE),
        metrics=_shown_metrics(read_table(store, sources.metrics, METRICS)),
        held_out=held_out(ranks, OUR_MODEL),
        left_out=int(store.manifest(sources.metrics).counts.get("left_out", 0)),
        sampled_candidates=_sampled_candidates(store, sources.metrics),
        item_map=_item_map(data, clusters, vectors, labels),
        clusters=_cluster_facts(data, clusters, labels),
        profiles=profile_examples(data, profiles, recommended, labels, shown),
        cross_domain=cross_domain(data, recommended, shown),
        cold_items=cold_items(data, recommended, shown),
        guards=guards(data, recommended, listed.counts),
        stages=stages,
        intervals=metric_intervals(ranks, OUR_MODEL),
        lead=baseline_lead(ranks),
        changes=changes_since_served(
            store, sources.dataset, sources.metrics, sources.recommendations
        ),
        drift=drift_since_served(store, sources.dataset, data),
        bridges=bridges(data, vectors),
        cold_domain=cold_domain_tables(data, ranks, OUR_MODEL),
        transitions=transitions_of(data),
        concentration=concentration_of(data),
        releases=releases_until(store, sources.metrics),
        answers=answers_by_day(store),
        ablation=None if sources.ablation is None else ablation_facts(store, sources.ablation),
    )


def _shown_metrics(metrics: pl.DataFrame) -> pl.DataFrame | None:
    """Returns the metrics at one cutoff, None without any."""
    if metrics.is_empty():
        return None
    return metrics.filter(pl.col("metric").is_in(["NDCG@10", "HR@10"]))


def _sampled_candidates(store: Store, metrics: ArtifactRef) -> int:
    found = store.manifest(metrics).parameters["candidates"]
    assert isinstance(found, int)
    return found


def _settings(store: Store, sources: ReportSources) -> tuple[tuple[str, str], ...]:
    config = store.manifest(sources.model).parameters
    found = [("clusters", str(store.manifest(sources.clusters).parameters["clusters"]))]
    if sources.training_choice is not None:
        found.append(("preset", read_training_choice(store, sources.training_choice).why))
    notes = store.manifest(sources.model).notes
    found += [("time budget", note) for note in notes if TIME_BUDGET in note]
    for section, values in config.items():
        if isinstance(values, dict):
            found += [(f"{section}: {name}", str(value)) for name, value in values.items()]
    return tuple(found)


def _dataset_facts(data: Dataset, dropped: pl.DataFrame) -> DatasetFacts:
    in_domain, domain_of = data.in_domain(), data.domain_of_event
    domains_of_user = in_domain.sum(axis=1)
    lengths = data.users.group_by("events").len("users").sort("events")
    return DatasetFacts(
        users=data.users.height,
        items=data.items.height,
        events=len(data.item_indices),
        domains=tuple(
            _domain_facts(data, number, name, int(in_domain[:, number].sum()), domain_of)
            for number, name in enumerate(data.domains)
        ),
        overlapping_users=int((domains_of_user > 1).sum()),
        single_domain_users=int((domains_of_user == 1).sum()),
        history_lengths=lengths.rename({"events": "length"}),
        dropped=dict(dropped.iter_rows()),
    )


def _domain_facts(
    data: Dataset, number: int, name: str, users: int, domain_of: np.ndarray
) -> DomainFacts:
    events = data.item_indices[domain_of == number]
    items = data.items.filter(pl.col(col.DOMAIN) == name)
    return DomainFacts(
        name=name,
        users=users,
        items=items.height,
        events=len(events),
        items_without_text=items[col.TITLE].null_count(),
        items_never_bought=items.height - len(np.unique(events)),
    )


def _names(store: Store, names: ArtifactRef | None) -> dict[int, str]:
    """Returns the cluster names, without those of the dummy."""
    if names is None or DUMMY_NOTE in store.manifest(names).notes:
        return {}
    return read_cluster_names(store, names)


def _item_map(
    data: Dataset, clusters: pl.DataFrame, vectors: np.ndarray, labels: dict[int, str]
) -> pl.DataFrame:
    """Returns x, y of a sample of items by t-SNE with a deterministic start from PCA."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    titled = data.items.filter(pl.col(col.TITLE).is_not_null())
    shown = titled.sample(min(MAP_ITEMS, titled.height), seed=0).sort(col.ITEM_INDEX)
    chosen = vectors[shown[col.ITEM_INDEX].to_numpy()]
    if len(chosen) < 10:
        return pl.DataFrame(
            schema={
                "x": pl.Float64,
                "y": pl.Float64,
                "title": pl.String,
                "domain": pl.String,
                "cluster": pl.String,
            }
        )
    narrow = PCA(min(50, *chosen.shape), random_state=0).fit_transform(chosen)
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    flat = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(narrow)
    labelled = clusters.select(
        pl.col(col.ITEM_INDEX).cast(pl.UInt32),
        pl.col(col.CLUSTER).replace_strict(labels, return_dtype=pl.String),
    )
    return (
        shown.select(col.ITEM_INDEX, col.TITLE, col.DOMAIN)
        .with_columns(pl.Series("x", flat[:, 0]), pl.Series("y", flat[:, 1]))
        .join(labelled, on=col.ITEM_INDEX, how="left", maintain_order="left")
        .select("x", "y", col.TITLE, col.DOMAIN, col.CLUSTER)
    )


def _cluster_facts(
    data: Dataset, clusters: pl.DataFrame, labels: dict[int, str]
) -> tuple[ClusterFacts, ...]:
    """Returns the clusters with their most central titles."""
    domains = data.items.select(pl.col(col.ITEM_INDEX).cast(pl.Int32), col.DOMAIN)
    placed = clusters.join(domains, on=col.ITEM_INDEX).sort(col.CLUSTER)
    examples = dict(central_titles(data, clusters, CLUSTER_EXAMPLES).iter_rows())
    facts = []
    for (cluster,), rows in placed.group_by(col.CLUSTER, maintain_order=True):
        shares = rows[col.DOMAIN].value_counts(normalize=True, name="share")
        facts.append(
            ClusterFacts(
                cluster=labels[cluster],
                items=rows.height,
                domain_shares=dict(shares.iter_rows()),
                examples=tuple(examples.get(cluster, ())),
            )
        )
    return tuple(facts)


LABEL_CHARACTERS = 40


def cluster_labels(
    data: Dataset, clusters: pl.DataFrame, names: Mapping[int, str]
) -> dict[int, str]:
    """Returns a label of every cluster, as "07 · Moka pots", sortable by number."""
    central = {cluster: titles[0] for cluster, titles in central_titles(data, clusters, 1).rows()}
    numbers = sorted(clusters[col.CLUSTER].unique().to_list())
    digits = len(str(max(numbers, default=0)))
    called = {number: names.get(number) or central.get(number) for number in numbers}
    return {
        number: f"{number:0{digits}}" + (f" · {one_line(name, LABEL_CHARACTERS)}" if name else "")
        for number, name in called.items()
    }


def ablation_facts(store: Store, ref: ArtifactRef) -> AblationFacts:
    """Returns the rows and sentences of an ablation; only notes if nothing was measured."""
    table = read_table(store, ref, ABLATION)
    manifest = store.manifest(ref)
    return AblationFacts(
        users=int(manifest.counts["users"]),
        of_users=int(manifest.counts["of_users"]),
        rows=read_ablation(store, ref),
        findings=tuple(findings(table)) or tuple(manifest.notes),
    )
