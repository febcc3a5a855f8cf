"""NDCG@10 and HR@10 on the validation events, for early stopping.

Events are divided among processes; all get the same result.
"""

from __future__ import annotations

import numpy as np
import torch

from model.config import TrainConfig
from model.data.sequences import VALIDATION, Sequences
from model.network.tri_thread import TriThread
from model.scoring.model_scorer import CandidateScorer, ModelScorer
from model.scoring.ranking import (
    Ranks,
    rank_all,
    rank_candidates,
    ranking_metrics,
    sample_candidates,
)
from model.training.processes import ProcessGroup

CUTOFF = 10


class Validation:
    """The validation events, or a seeded sample of `validation_users` of them."""

    def __init__(
        self, sequences: Sequences, config: TrainConfig, process_group: ProcessGroup
    ) -> None:
        self._process_group = process_group
        events, rng = sequences.prefixes_of_split(VALIDATION), np.random.default_rng(config.seed)
        chosen = events.select(events.sampled_rows(config.validation_users, rng))
        self._count = len(chosen)
        self._own = chosen.select(np.array(process_group.share_of(len(chosen)), np.int64))
        wanted = config.validation_candidates
        # Excluding test items from candidates would leak them into model selection.
        self._candidates = (
            None
            if wanted is None
            else sample_candidates(sequences.before_test(), self._own, wanted, config.seed)
        )

    def __len__(self) -> int:
        """Returns the number of events of all processes."""
        return self._count

    def measure(self, model: TriThread) -> tuple[float, float]:
        """Returns NDCG@10 and HR@10; NaN without validation events."""
        own = ranking_metrics(self._ranks(model), (CUTOFF,)) if len(self._own) else None
        sums = [own.ndcg[CUTOFF] * own.count, own.hit_rate[CUTOFF] * own.count] if own else [0, 0]
        sums = self._process_group.sum(
            torch.tensor(sums, dtype=torch.float64, device=self._process_group.device)
        )
        ndcg, hit_rate = (sums / self._count).tolist()
        return ndcg, hit_rate

    def _ranks(self, model: TriThread) -> Ranks:
        if self._candidates is None:
            return rank_all(ModelScorer(model), self._own)
        return rank_candidates(CandidateScorer(model), self._own, self._candidates)
