"""Facts of a run that the terminal, the summary, the Prefect UI and the report show alike."""

from collections.abc import Iterable

from tasks.frame.stage import LlmUsage, StageResult


class RunFacts:
    """The stages of a run: ``by_name``, their LLM usage and their notes."""

    def __init__(self, stages: Iterable[StageResult]) -> None:
        self.by_name = {stage.stage: stage for stage in stages}
        self.asking = [stage for stage in self.by_name.values() if stage.usage.prompts]
        """Stages that needed answers of a language model."""
        self.usage = sum((stage.usage for stage in self.asking), start=LlmUsage())
        self.notes = sorted({note for stage in self.by_name.values() for note in stage.notes})
        """Distinct notes of all artifacts."""

    def counts(self, stage: str) -> dict[str, int | float]:
        """Returns the counts of a stage, an empty dictionary if it did not run."""
        return self.by_name[stage].counts if stage in self.by_name else {}
