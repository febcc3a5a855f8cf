"""Which group a held-out event belongs to, on histories one can check by eye."""

import numpy as np

from model.data.sequences import TEST, sequences_from_lists
from model.scoring.groups import metric_groups

# Domain one is items 1..5, domain two items 6..15.
STARTS, NAMES = (0, 5, 15), ("one", "two")


def test_every_group_holds_what_its_name_says() -> None:
    histories = [
        [1, 1, 1, 2, 6],  # trains 1 1 1; prefix 1 1 1 2; target 6: another domain, unseen
        [1, 7, 7, 8, 1],  # trains 1 7 7; prefix in both domains; target 1: head of domain one
        [2, 7, 3, 3, 3],  # trains 2 7 3; prefix 2 7 3 3; target 3: tail of domain one
        [8],  # too short for a held-out event
        [*[9] * 22, 10, 7],  # trains 22; prefix of 23 in domain two; target 7: head of domain two
    ]
    sequences = sequences_from_lists(histories, STARTS, NAMES, held_out=2)
    prefixes = sequences.prefixes_of_split(TEST)
    assert prefixes.targets.tolist() == [6, 1, 3, 7]
    groups = {name: mask.tolist() for name, mask in metric_groups(prefixes).items()}
    assert groups == {
        "all": [True, True, True, True],
        "users in several domains": [False, True, True, False],
        "users in one domain": [True, False, False, True],
        "domain switch before the target": [True, True, False, False],
        "no domain switch before the target": [False, False, True, True],
        "first event in its domain": [True, False, False, False],
        "short histories (up to 5)": [True, True, True, False],
        "middle histories (6 to 20)": [False, False, False, False],
        "long histories (over 20)": [False, False, False, True],
        # Bought in training: 1 four times, 2 and 3 once; 9 twenty-two times, 7 three times.
        "head items": [False, True, False, True],
        "tail items": [False, False, True, False],
        "items unseen in training": [True, False, False, False],
    }


def test_head_tail_and_unseen_share_out_every_event() -> None:
    rng = np.random.default_rng(2)
    histories = [rng.integers(1, 16, rng.integers(3, 30)).tolist() for _ in range(40)]
    prefixes = sequences_from_lists(histories, STARTS, NAMES, held_out=2).prefixes_of_split(TEST)
    groups = metric_groups(prefixes)
    parts = [groups[name] for name in ("head items", "tail items", "items unseen in training")]
    assert np.sum(parts, axis=0).tolist() == [1] * 40
    spread = groups["users in one domain"].astype(int) + groups["users in several domains"]
    assert spread.tolist() == [1] * 40
    assert {len(mask) for mask in groups.values()} == {40}


def test_held_out_events_make_no_item_popular() -> None:
    sequences = sequences_from_lists([[1, 2, 3], [1, 2, 3], [1, 2, 3]], (0, 2, 4), NAMES, 2)
    groups = metric_groups(sequences.prefixes_of_split(TEST))
    assert groups["items unseen in training"].all()
    assert not groups["head items"].any()
