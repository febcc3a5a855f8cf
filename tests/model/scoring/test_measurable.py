"""Which held-out events have enough candidates for a figure."""

import numpy as np

from model.data.sequences import TEST, Sequences, sequences_from_lists
from model.scoring.measurable import candidate_counts, is_measurable, unmeasured_by_domain

STARTS, NAMES = (0, 7, 40), ("tiny", "usual")


def random_sequences(users: int = 40) -> Sequences:
    rng = np.random.default_rng(3)
    histories = [rng.integers(1, 41, rng.integers(1, 14)).tolist() for _ in range(users)]
    return sequences_from_lists(histories, STARTS, NAMES, held_out=2)


def test_candidates_are_counted_as_a_plain_loop_does() -> None:
    sequences = random_sequences()
    prefixes = sequences.prefixes_of_split(TEST)
    wanted = []
    for row, target in enumerate(prefixes.targets.tolist()):
        seen = set(sequences.items[prefixes.start[row] : prefixes.stop[row]].tolist())
        low, high = (0, 7) if target <= 7 else (7, 40)
        wanted.append(sum(i not in seen and i != target for i in range(low + 1, high + 1)))
    assert candidate_counts(prefixes).tolist() == wanted
    assert len(set(wanted)) > 5


def test_only_events_of_a_domain_large_enough_are_measured(usual_candidates: int) -> None:
    sequences = random_sequences()
    prefixes = sequences.prefixes_of_split(TEST)
    of_tiny = prefixes.targets <= 7
    measured = is_measurable(prefixes)
    assert not measured[of_tiny].any()
    assert (
        measured[~of_tiny].tolist()
        == (candidate_counts(prefixes)[~of_tiny] >= usual_candidates).tolist()
    )
    assert unmeasured_by_domain(prefixes)["tiny"] == of_tiny.sum()
