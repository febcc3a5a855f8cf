"""What held-out items are ranked against: drawn once, kept for every model (METHOD 7.12)."""

from artifacts.kinds.candidates import write_candidates
from artifacts.manifest import ArtifactRef, Identity, Kind, identity
from artifacts.store import Draft, Store
from model.data.sequences import TEST
from model.scoring.ranking import sample_candidates
from tasks.frame.model_inputs import load_sequences
from tasks.frame.stage import run_stage


def stored_candidates(store: Store, dataset: ArtifactRef, count: int, seed: int) -> ArtifactRef:
    """Returns ``count`` items a test event that its user never met, drawn where they are not yet.

    Rows follow the test events in user order. A row depends on seed, user and position alone.
    """
    wanted = candidates_identity(dataset, count, seed)

    def make(draft: Draft) -> None:
        sequences = load_sequences(store, dataset)
        prefixes = sequences.prefixes_of_split(TEST)
        drawn = sample_candidates(sequences, prefixes, count, seed)
        write_candidates(draft.path, drawn)
        draft.counts.update({"test_events": len(prefixes), "candidates": count})

    return run_stage(store, f"draw {count} candidates", wanted, make).ref


def candidates_identity(dataset: ArtifactRef, count: int, seed: int) -> Identity:
    """What drawn candidates depend on: the dataset, how many, and the seed."""
    return identity(Kind.CANDIDATES, {"count": count, "seed": seed}, {"dataset": dataset})
