"""The stage that measures what item texts and user profiles bring."""

from artifacts.kinds.ablation import ABLATION, ABLATION_SCHEMA
from artifacts.kinds.results import read_table
from artifacts.store import Store
from tasks.ablate import AblationConfig, ablate
from tests.tasks.shops.prepared_training import QUICK_TRAINING, PreparedTraining


def test_too_few_users_are_a_note_and_an_empty_table(store: Store) -> None:
    prepared = PreparedTraining(store)
    made = ablate.fn(
        prepared.sources,
        QUICK_TRAINING.resolved(),
        AblationConfig(),
        store.root,
    )
    assert read_table(store, made.ref, ABLATION).schema == ABLATION_SCHEMA
    assert read_table(store, made.ref, ABLATION).is_empty()
    (note,) = made.notes
    assert "and 30 are needed" in note


def test_an_ablation_is_made_once_for_the_same_data_and_model(store: Store) -> None:
    prepared = PreparedTraining(store)
    first, second = (
        ablate.fn(
            prepared.sources,
            QUICK_TRAINING.resolved(),
            AblationConfig(),
            store.root,
        )
        for _ in range(2)
    )
    assert (first.ref, second.reused) == (second.ref, True)
