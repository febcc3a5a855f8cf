"""The gate: what is compared with what, what holds a model back, what does not."""

import json
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch

from artifacts.bundles import SERVING, create_bundle
from artifacts.integrity import describe_files
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.item_vectors import STATUS, EmbeddingStatus, write_item_embeddings
from artifacts.kinds.results import RECOMMENDATION_SCHEMA, RECOMMENDATIONS
from artifacts.manifest import MANIFEST, ArtifactRef, Kind, document_of, identity
from artifacts.store import Store
from model.checkpoint import CONFIG_FILE, WEIGHTS_FILE, read_tensors, save_model, write_tensors
from model.config import load_preset
from model.network.tri_thread import TriThread
from tasks.frame.model_inputs import load_tables
from tasks.judge_release import GateComparison, PromotionConfig, compare, judge, judge_release
from tasks.llm.providers.dummy_endpoint import embed_texts
from tasks.project import ProjectConfig, project_items
from tasks.promoting.quality_guards import GuardThresholds
from tasks.promoting.release_history import Decision, record_decision
from tasks.promoting.rematch import CatalogueMismatchError, NotComparableError, Parts, rematch
from tasks.promoting.verdict import Verdict
from tests.tasks.shops.counted_lists import recommendation_counts
from tests.tasks.shops.small_shop import EVENTS, TITLES, Event, SmallShop

GATE = PromotionConfig(
    margin=0.1, min_user_coverage=0.8, guards=GuardThresholds(min_served_share=0.8)
)
EVERY_EVENT = 1000

# The shop a day later: ada came back, and there is a new item that nobody could know before.
LATER = SmallShop(
    events=(*EVENTS, ("ada", "g3", "gear", 6), ("ada", "b9", "books", 7)),
    titles={**TITLES, ("books", "b9"): "Grinders of the World"},
)


def released(
    store: Store,
    shop: SmallShop,
    *,
    seed: int = 0,
    ndcg: float | None = None,
    refit: bool = False,
    candidates: int | None = None,
    users: int | None = None,
) -> Parts:
    """Untrained models with all that a release holds and the gate reads."""
    dataset = shop.ingested(store)
    data = read_dataset(store, dataset)
    vectors = embed_texts(["padding", *data.items["title"].fill_null("no title").to_list()])
    vectors[0] = 0
    embeddings = embedded(store, dataset, vectors)
    tables = project_items.fn(dataset, embeddings, ProjectConfig(hidden=8), store.root).ref
    train = {"seed": seed, "refit": refit, "validation_candidates": candidates}
    train |= {"validation_users": users}
    overrides = {"model": {"hidden": 8}, "train": train}
    config = load_preset("paper", overrides)  # pyright: ignore[reportArgumentType]
    torch.manual_seed(seed)
    model = TriThread(load_tables(store, tables), data.domain_starts, config.model, None)
    card = identity(Kind.MODEL, config, {"dataset": dataset, "tables": tables})
    with store.create(card) as draft:
        save_model(draft.path, model, config, data.domains)
        if ndcg is not None:
            draft.counts["validation_ndcg"] = ndcg
    return {
        "dataset": dataset,
        "embeddings": embeddings,
        "tables": tables,
        "model": card.ref,
        "recommendations": recommended(store, dataset, data.users["user_id"].to_list()),
    }


def embedded(store: Store, dataset: ArtifactRef, vectors: np.ndarray) -> ArtifactRef:
    made = identity(Kind.ITEM_EMBEDDINGS, {"model": "the same"}, {"dataset": dataset})
    status = {
        "item_index": range(1, len(vectors)),
        STATUS: [EmbeddingStatus.EMBEDDED.value] * (len(vectors) - 1),
        "reason": pl.Series([None] * (len(vectors) - 1), dtype=pl.String),
    }
    with store.create(made) as draft:
        write_item_embeddings(draft.path, vectors, pl.DataFrame(status))
    return made.ref


def recommended(
    store: Store,
    dataset: ArtifactRef,
    users: list[str],
    times: int = 1,
    counted: bool = True,
    domain: str = "gear",
) -> ArtifactRef:
    """The same item for everybody, `times` times."""
    facts = {"users": users, "times": times, "counted": counted, "domain": domain}
    made = identity(Kind.RECOMMENDATIONS, facts, {"dataset": dataset})
    ranks = range(1, times + 1)
    rows = [(user, domain, rank, "g1", "Moka Pot", 1.0) for user in users for rank in ranks]
    with store.create(made) as draft:
        table = pl.DataFrame(rows, schema=RECOMMENDATION_SCHEMA, orient="row")
        table.write_parquet(draft.path / RECOMMENDATIONS)
        if counted:
            draft.counts.update(recommendation_counts(read_dataset(store, dataset), table))
    return made.ref


def judged(store: Store, candidate: Parts, config: PromotionConfig = GATE) -> Verdict:
    return judge_release.fn(create_bundle(store, Kind.RELEASE, candidate), config, store.root)


def serve(store: Store, parts: Parts) -> ArtifactRef:
    release = create_bundle(store, Kind.RELEASE, parts)
    store.point(SERVING, release)
    return release


@pytest.mark.parametrize(
    ("served", "candidate", "promoted"),
    [(0.20, 0.21, True), (0.20, 0.181, True), (0.20, 0.179, False), (0.0, 0.0, True)],
)
def test_a_model_may_be_worse_by_the_margin_and_no_more(
    served: float, candidate: float, promoted: bool
) -> None:
    verdict = judge(GateComparison(served, candidate, "one split"), 1.0, GATE)
    assert verdict.promoted is promoted
    if not promoted:
        assert "0.1790 against 0.2000" in verdict.summary


def test_too_few_users_with_recommendations_hold_a_model_back() -> None:
    better = GateComparison(0.1, 0.2, "one split")
    assert judge(better, 0.8, GATE).promoted
    assert "79.0% of the users" in judge(better, 0.79, GATE).summary


def test_an_open_gate_promotes_and_still_tells_what_was_found() -> None:
    verdict = judge(GateComparison(0.2, 0.1, "one split"), 0.0, PromotionConfig(gate=False))
    assert verdict.promoted
    assert len(verdict.reasons) == 2


def test_the_first_model_is_promoted_if_it_covers_the_users(store: Store) -> None:
    first = released(store, SmallShop())
    assert judged(store, first).promoted
    nobody = recommended(store, first["dataset"], ["ada"])
    assert not judged(store, {**first, "recommendations": nobody}).promoted


def test_lists_that_break_a_guard_hold_a_better_model_back_and_say_why(store: Store) -> None:
    serve(store, released(store, SmallShop(), seed=0, ndcg=0.1))
    better = released(store, SmallShop(), seed=1, ndcg=0.2)
    assert judged(store, better).promoted
    everybody = sorted({event[0] for event in EVENTS})
    twice = recommended(store, better["dataset"], everybody, times=2)
    verdict = judged(store, {**better, "recommendations": twice})
    assert not verdict.promoted
    assert verdict.reasons == ("recommendations: duplicates is 5, at most 0 is required",)
    strict = GATE.model_copy(update={"guards": GuardThresholds(min_coverage=0.5)})
    assert "reached_share is 0.2" in judged(store, better, strict).summary
    uncounted = recommended(store, better["dataset"], everybody, counted=False)
    reasons = judged(store, {**better, "recommendations": uncounted}).reasons
    assert len(reasons) == 4
    assert all("was not measured" in reason for reason in reasons)


def test_on_one_dataset_the_recorded_validation_figures_decide(store: Store) -> None:
    serving = serve(store, released(store, SmallShop(), seed=0, ndcg=0.30))
    worse = released(store, SmallShop(), seed=1, ndcg=0.20)
    comparison = compare(store, serving, worse, EVERY_EVENT)
    assert (comparison.served, comparison.candidate) == (0.30, 0.20)
    verdict = judged(store, worse)
    assert not verdict.promoted
    assert verdict.user_coverage == 1.0


def test_figures_of_sampled_and_of_full_ranking_are_not_compared(store: Store) -> None:
    serving = serve(store, released(store, SmallShop(), seed=0, ndcg=0.30, candidates=5))
    full = released(store, SmallShop(), seed=1, ndcg=0.05)
    comparison = compare(store, serving, full, EVERY_EVENT)
    assert "both models on 4 validation events" in comparison.basis
    other = identity(Kind.ITEM_EMBEDDINGS, {"model": "another"}, {})
    with store.create(other) as draft:
        draft.counts["width"] = 1
    comparison = compare(store, serving, {**full, "embeddings": other.ref}, EVERY_EVENT)
    assert comparison.change is None
    assert comparison.basis.startswith("not compared: item texts")


def test_figures_of_differently_drawn_validation_users_are_not_compared(store: Store) -> None:
    serving = serve(store, released(store, SmallShop(), seed=0, ndcg=0.30, users=3))
    again = released(store, SmallShop(), seed=1, ndcg=0.05, users=3)
    comparison = compare(store, serving, again, EVERY_EVENT)
    assert "both models on 4 validation events" in comparison.basis


def test_after_a_new_dump_both_models_rank_the_same_events(store: Store) -> None:
    served = released(store, SmallShop(), seed=0, ndcg=0.9)
    candidate = released(store, LATER, seed=1, ndcg=0.1)
    found = rematch(store, served, candidate, EVERY_EVENT)
    # ada, bob, cyd and dan have three events or more; eve has one.
    assert (found.targets, found.split) == (4, "validation")
    comparison = compare(store, serve(store, served), candidate, EVERY_EVENT)
    assert comparison.candidate == found.candidate  # And not the recorded 0.1.
    assert "4 validation events that neither was trained on" in comparison.basis


def test_one_model_against_itself_is_a_draw(store: Store) -> None:
    parts = released(store, SmallShop(), seed=3)
    found = rematch(store, parts, parts, EVERY_EVENT)
    assert found.served == found.candidate


def test_events_that_the_served_model_has_learnt_are_not_asked(store: Store) -> None:
    # Refitted, the served model has learnt every validation event but ada's new one.
    served = released(store, SmallShop(), refit=True)
    found = rematch(store, served, released(store, LATER), EVERY_EVENT)
    assert found.targets == 1
    with pytest.raises(NotComparableError, match="in the training of the served model"):
        rematch(store, served, released(store, SmallShop(), seed=1), EVERY_EVENT)


def test_a_refitted_candidate_is_asked_about_test_events(store: Store) -> None:
    served = released(store, SmallShop())
    found = rematch(store, served, released(store, LATER, refit=True), EVERY_EVENT)
    assert (found.targets, found.split) == (4, "test")


def test_a_sample_of_the_events_is_enough_for_a_large_dump(store: Store) -> None:
    served, candidate = released(store, SmallShop()), released(store, LATER)
    assert rematch(store, served, candidate, max_events=2).targets == 2


def test_a_model_of_another_shop_holds_nothing_back(store: Store) -> None:
    serving = serve(store, released(store, SmallShop(), ndcg=0.9))
    renamed = {(domain, f"x-{item}"): title for (domain, item), title in TITLES.items()}
    events = tuple((user, f"x-{item}", *rest) for user, item, *rest in EVENTS)
    other = released(store, SmallShop(events, renamed), ndcg=0.1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(CatalogueMismatchError, match="0% of the new data's items"):
        rematch(store, {**released(store, SmallShop())}, other, EVERY_EVENT)
    assert compare(store, serving, other, EVERY_EVENT).change is None
    assert judged(store, other).promoted


MUSIC = (*EVENTS, ("bob", "m1", "music", 8), ("cyd", "m1", "music", 9))
ONLY_ADA = tuple(event for event in EVENTS if event[0] == "ada")


@pytest.mark.parametrize(
    ("domain", "before", "now", "reason"),
    [
        ("gear", EVENTS, ONLY_ADA, "users in gear, 20.0% have recommendations"),
        (
            "music",
            MUSIC,
            EVENTS,
            "domain music of the served release is not in the data, which have books, gear; is",
        ),
    ],
)
def test_a_dump_of_a_part_is_held_though_its_model_cannot_be_compared(
    store: Store, domain: str, before: tuple[Event, ...], now: tuple[Event, ...], reason: str
) -> None:
    titles = {**TITLES, ("music", "m1"): "Songs of the Road"}
    served = released(store, SmallShop(before, titles), refit=True)
    users = ["ada", "bob", "cyd", "dan", "eve"]
    lists = recommended(store, served["dataset"], users, domain=domain)
    serving = serve(store, {**served, "recommendations": lists})
    part = released(store, SmallShop(now))
    assert compare(store, serving, part, EVERY_EVENT).change is None
    verdict = judged(store, part)
    assert not verdict.promoted
    assert reason in verdict.summary
    assert judged(store, part, GATE.model_copy(update={"min_kept_users": 0.0})).promoted


def test_other_embeddings_leave_the_recorded_figures_and_say_so(store: Store) -> None:
    serving = serve(store, released(store, SmallShop(), ndcg=0.30))
    candidate = released(store, LATER, ndcg=0.29)
    other = identity(Kind.ITEM_EMBEDDINGS, {"model": "another"}, {})
    with store.create(other) as draft:
        draft.counts["width"] = 1
    comparison = compare(store, serving, {**candidate, "embeddings": other.ref}, EVERY_EVENT)
    assert comparison.change == pytest.approx(0.29 / 0.30 - 1)
    assert "recorded figures of other events" in comparison.basis


@pytest.mark.parametrize("older", ["config", "weights"])
def test_a_served_model_of_an_older_version_does_not_stop_the_next_one(
    store: Store, older: str
) -> None:
    served = released(store, SmallShop(), ndcg=0.3)
    folder, before = store.path(served["model"]), store.manifest(served["model"])
    if older == "config":
        card = json.loads((folder / CONFIG_FILE).read_text())
        card["config"]["model"]["forgotten_switch"] = 1
        (folder / CONFIG_FILE).write_text(json.dumps(card))
    else:
        tensors, facts = read_tensors(folder / WEIGHTS_FILE)
        tensors["forgotten.weight"] = tensors.popitem()[1]
        write_tensors(folder / WEIGHTS_FILE, tensors, facts)
    (folder / MANIFEST).unlink()
    files = {"files": describe_files(folder)}
    as_written = before.model_copy(update=files)
    (folder / MANIFEST).write_bytes(document_of(as_written))
    comparison = compare(store, serve(store, served), released(store, LATER, ndcg=0.2), EVERY_EVENT)
    assert (comparison.served, comparison.candidate) == (0.3, 0.2)
    assert "recorded figures of other events" in comparison.basis
    assert "forgotten" in comparison.basis


def test_a_release_with_artifacts_missing_does_not_stop_the_next_one(store: Store) -> None:
    served = released(store, SmallShop(), ndcg=0.9)
    serving = serve(store, served)
    candidate = released(store, LATER, ndcg=0.1)
    for file in store.path(served["model"]).iterdir():
        file.unlink()
    comparison = compare(store, serving, candidate, EVERY_EVENT)
    assert comparison.basis.startswith("the served release cannot be read")


def test_a_gate_compares_no_figure_of_events_with_few_candidates(
    store: Store, usual_candidates: int
) -> None:
    served, candidate = released(store, SmallShop()), released(store, LATER, seed=1)
    with pytest.raises(NotComparableError, match=f"fewer than {usual_candidates} candidates"):
        rematch(store, served, candidate, EVERY_EVENT)


def test_a_model_that_was_rolled_back_is_not_served_again_by_itself(store: Store) -> None:
    first, second = released(store, SmallShop()), released(store, LATER)
    releases = [create_bundle(store, Kind.RELEASE, parts) for parts in (first, second)]
    for release, parts in zip(releases, (first, second), strict=True):
        record_decision(store, Decision.PROMOTED, "", partial(_chosen, release, parts))
    assert judged(store, second).promoted
    record_decision(
        store, Decision.ROLLED_BACK_TO, "odd lists", partial(_chosen, releases[0], first)
    )
    report = {**second, "report": second["recommendations"]}
    verdict = judged(store, report)
    assert not verdict.promoted
    assert "a release of this model was rolled back on" in verdict.summary
    assert "(odd lists)" in verdict.summary
    assert judged(store, released(store, LATER, seed=1)).promoted
    record_decision(store, Decision.PROMOTED, "by hand", partial(_chosen, releases[1], second))
    record_decision(store, Decision.ROLLED_BACK_TO, "", partial(_chosen, releases[1], second))
    assert judged(store, report).promoted


def _chosen(release: ArtifactRef, parts: Parts) -> tuple[ArtifactRef, Parts]:
    return release, parts
