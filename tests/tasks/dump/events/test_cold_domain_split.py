"""One whole domain is withheld from some users: who, what of, and what it changes upstream."""

import numpy as np
import polars as pl
import pytest

from artifacts.kinds.dataset import Dataset, Split, read_dataset
from artifacts.manifest import Kind
from artifacts.store import Store
from tasks.dump.dump_config import ColdDomain, DumpConfig
from tasks.dump.events.split import NothingHeldOutError
from tasks.ingest import ingest

USERS = 60
COLD = (Split.COLD_VALIDATION, Split.COLD_TEST)


def shop() -> pl.DataFrame:
    """Users of one, two or three domains, up to eight events in each."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(USERS):
        for domain in "abc"[: 1 + user % 3]:
            for _ in range(int(rng.integers(1, 9))):
                item = f"i{int(rng.integers(9))}"
                rows.append((f"u{user:02}", item, domain, int(rng.integers(10_000, 90_000))))
    schema = ["user_id", "item_id", "domain", "timestamp"]
    return pl.DataFrame(rows, schema=schema, orient="row")


def ingested(store: Store, events: pl.DataFrame, **choices: object) -> Dataset:
    path = store.workspace("dump") / "events.parquet"
    events.write_parquet(path)
    items = [(f"i{n}", domain, f"{domain} {n}") for domain in "abc" for n in range(9)]
    catalogue = pl.DataFrame(items, schema=["item_id", "domain", "title"], orient="row")
    catalogue.write_parquet(path.with_name("items.parquet"))
    files = {"interactions": str(path), "items": str(path.with_name("items.parquet"))}
    split = choices.pop("split", ColdDomain(test_share=0.4, validation_share=0.3))
    return read_dataset(
        store,
        ingest.fn(DumpConfig.model_validate({**files, "split": split, **choices}), store.root).ref,
    )


def marks(data: Dataset) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user": data.users["user_id"].to_numpy()[data.user_of_event],
            "domain": data.domain_of_event,
            "split": data.splits,
        }
    )


def test_one_domain_is_withheld_whole_and_three_events_are_left(store: Store) -> None:
    data = ingested(store, shop())
    events = marks(data)
    cold = events.filter(pl.col("split").is_in(COLD))
    assert cold.group_by("user").agg(pl.col("domain", "split").n_unique()).select(
        (pl.col("domain") == 1).all(), (pl.col("split") == 1).all()
    ).row(0) == (True, True)
    whole = events.join(cold.select("user", "domain").unique(), on=["user", "domain"], how="semi")
    assert whole.height == cold.height
    left = events.filter(~pl.col("split").is_in(COLD)).group_by("user").len()
    assert left.join(cold, on="user", how="semi").filter(pl.col("len") < 3).is_empty()
    assert set(cold["split"]) == set(COLD)


def test_of_the_others_the_last_event_validates_and_nothing_else_is_held_out(store: Store) -> None:
    events = marks(ingested(store, shop()))
    cold = events.filter(pl.col("split").is_in(COLD))
    others = events.join(cold, on="user", how="anti")
    for (_,), own in others.group_by("user", maintain_order=True):
        expected = [Split.TRAIN] * own.height
        if own.height >= 3:
            expected[-1] = Split.VALIDATION
        assert own["split"].to_list() == expected
    left = events.join(cold, on="user", how="semi").filter(~pl.col("split").is_in(COLD))
    assert set(left["split"]) == {Split.TRAIN}


def test_what_was_drawn_and_what_is_measured_is_said_and_counted(store: Store) -> None:
    data = ingested(store, shop())
    (manifest,) = store.artifacts(Kind.DATASET)
    cold = marks(data).filter(pl.col("split").is_in(COLD)).unique(["user"])
    counts = dict(cold["split"].value_counts().iter_rows())
    several, drawn = 40, 16 + 12
    assert manifest.notes[0] == (
        f"held out by cold domain: of {several} users of several domains {counts[4]} are tested "
        f"and {counts[3]} validate, each on one domain whose events are withheld"
    )
    assert manifest.notes[1].startswith(f"{drawn - cold.height} more were drawn and not measured")
    assert manifest.counts["cold_test_events"] == int((data.splits == Split.COLD_TEST).sum())
    assert manifest.counts["test_events"] == 0


def test_the_seed_draws_users_and_domains(store: Store) -> None:
    first, again = ingested(store, shop()), ingested(store, shop(), seed=1)
    assert not np.array_equal(first.splits, again.splits)


def test_who_is_drawn_does_not_depend_on_who_else_is_there_as_an_only_domain(store: Store) -> None:
    """Users of one domain take no part in the draw."""
    whole = marks(ingested(store, shop()))
    fewer = shop().filter(~pl.col("user_id").is_in(["u00", "u03", "u57"]))
    kept = marks(ingested(store, fewer))
    assert kept.equals(whole.join(kept.unique("user"), on="user", how="semi"))


def test_a_share_that_measures_nobody_is_refused(store: Store) -> None:
    with pytest.raises(NothingHeldOutError, match="of 40 users of several domains 0 were drawn"):
        ingested(store, shop(), split=ColdDomain(test_share=0.001))
    with pytest.raises(NothingHeldOutError, match="of 0 users of several domains"):
        ingested(store, shop().with_columns(user_id=pl.col("user_id") + pl.col("domain")))


def test_shares_that_leave_nobody_are_refused() -> None:
    with pytest.raises(ValueError, match="leave no user to train on"):
        ColdDomain(test_share=0.6, validation_share=0.4)
