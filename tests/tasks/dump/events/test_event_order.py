"""Events are ordered bucket by bucket, as one sort of all of them would order them."""

import numpy as np
import pytest

from tasks.dump.events import event_sieve


@pytest.mark.parametrize("bucket", [1, 7, 1 << 16])
@pytest.mark.parametrize("users", [1, 5, 3_000])
def test_buckets_give_the_order_of_one_sort(
    bucket: int, users: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_sieve, "_BUCKET_EVENTS", bucket)
    rng = np.random.default_rng(users)
    who = rng.integers(0, users, 2_000).astype(np.uint32)
    times, draw = rng.integers(0, 20, 2_000), rng.integers(0, 3, 2_000)
    for keys in ((times,), (draw, times)):
        naive = np.lexsort((*keys, who))
        assert np.array_equal(event_sieve.by_user(who, keys), naive)


def test_more_events_than_buckets_can_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_sieve, "_BUCKET_EVENTS", 1)
    who = np.random.default_rng(0).permutation(70_000).astype(np.uint32)
    times = np.zeros(70_000, np.int64)
    assert np.array_equal(event_sieve.by_user(who, (times,)), np.argsort(who))


def test_no_events_have_an_order_too() -> None:
    nothing = np.zeros(0, np.uint32)
    assert event_sieve.by_user(nothing, (nothing,)).tolist() == []
