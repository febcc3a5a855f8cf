"""The verdict of the promotion gate (`tasks.judge_release`), for modules that load without the
model, such as the dump scan, which runs every minute."""

from artifacts.strict import Strict
from tasks.promoting.baseline_lead import BaselineLead


class Verdict(Strict):
    """Verdict of the promotion gate.

    ``reasons`` against promotion; a promoted release has some only if the gate is off. ``lead``:
    difference from the strongest baseline, None without a baseline.
    """

    promoted: bool
    reasons: tuple[str, ...]
    basis: str
    served_ndcg: float | None
    candidate_ndcg: float | None
    user_coverage: float
    lead: BaselineLead | None = None

    @property
    def summary(self) -> str:
        """Returns one line for the run's state, the decision and the terminal."""
        if not self.promoted:
            return "; ".join(self.reasons)
        if self.served_ndcg is None or self.candidate_ndcg is None:
            return self.basis
        return f"NDCG@10 {self.candidate_ndcg:.4f} against {self.served_ndcg:.4f} ({self.basis})"
