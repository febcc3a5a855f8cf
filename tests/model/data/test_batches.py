from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.batches import CrossDomainBatch, bucketed_users, prefix_batch, training_batch
from model.data.sequences import TEST, sequences_from_lists

STARTS, NAMES = [0, 2, 5, 9], ("a", "b", "c")
histories = st.lists(st.lists(st.integers(1, 9), max_size=9), min_size=1, max_size=8)


Question = tuple[int, int, tuple[int, ...], tuple[int, ...]]


def asked(batch: CrossDomainBatch) -> list[Question]:
    """What the batch asks, read back slowly: user, target, mixed prefix, own-domain prefix."""
    found = []
    width = batch.mixed_items.shape[1]
    for domain, queries in enumerate(batch.queries):
        local = batch.local_items[domain]
        for row, mixed, own, target in zip(
            queries.rows.tolist(),
            queries.mixed_position.tolist(),
            queries.local_position.tolist(),
            queries.targets.tolist(),
            strict=True,
        ):
            assert mixed < 0 or mixed // width == row
            seen = () if mixed < 0 else batch.mixed_items[row, : mixed % width + 1].tolist()
            own_row, place = divmod(own, local.shape[1])
            here = () if own < 0 else local[own_row, : place + 1].tolist()
            found.append((int(batch.users[row]), target, tuple(seen), tuple(here)))
    return found


@settings(deadline=None, max_examples=60)
@given(histories, st.integers(1, 5), st.integers(0, 99))
def test_every_training_event_after_the_first_is_a_target_exactly_once(
    lists: list[list[int]], batch_size: int, seed: int
) -> None:
    sequences = sequences_from_lists(lists, STARTS, NAMES)
    rng = np.random.default_rng(seed)
    got = Counter(
        question
        for users in bucketed_users(sequences, batch_size, rng)
        for question in asked(training_batch(sequences, users, max_length=20))
    )
    wanted = Counter()
    for user, history in enumerate(lists):
        for t in range(1, len(history)):
            domain = sequences.domain_of(np.array([history[t]]))[0]
            own = [i for i in history[:t] if STARTS[domain] < i <= STARTS[domain + 1]]
            wanted[(user, history[t], tuple(history[:t]), tuple(own))] += 1
    assert got == wanted


@settings(deadline=None, max_examples=60)
@given(histories, st.integers(1, 6))
def test_a_window_keeps_the_newest_events(lists: list[list[int]], max_length: int) -> None:
    sequences = sequences_from_lists(lists, STARTS, NAMES, held_out=2)
    prefixes = sequences.prefixes_of_split(TEST)
    got = {user: seen for user, _, seen, _ in asked(prefix_batch(prefixes, max_length))}
    assert got == {u: tuple(h[:-1][-max_length:]) for u, h in enumerate(lists) if len(h) >= 3}


def test_a_user_without_history_asks_with_two_empty_prefixes() -> None:
    sequences = sequences_from_lists([[], [4, 1]], STARTS, NAMES)
    batch = prefix_batch(sequences.prefixes_of_users(np.array([0, 1])), 10, domain=1)
    assert asked(batch) == [(0, 0, (), ()), (1, 0, (4, 1), (4,))]
    assert batch.last_position.tolist() == [-1, 3]


def test_the_same_seed_gives_the_same_batches_and_another_seed_does_not() -> None:
    lists = [[1] * (2 + n % 4) for n in range(40)]
    sequences = sequences_from_lists(lists, STARTS, NAMES)

    def order(seed: int) -> list[list[int]]:
        return [b.tolist() for b in bucketed_users(sequences, 7, np.random.default_rng(seed))]

    assert order(1) == order(1)
    assert order(1) != order(2)
