"""Answers to prompts that are rendered block by block, in this process or on a Ray cluster."""

from collections.abc import Iterable, Iterator

import polars as pl

from artifacts.ledger.claims import PROMPT
from tasks.llm.answer_all import Answered, answer_all
from tasks.llm.asking_step import AskingStep, Place, Plan, prompts_of
from tasks.llm.settings.engine import Engine, EngineSettings


def answer_planned(
    step: AskingStep, plan: Plan, blocks: Iterable[pl.DataFrame], place: Place
) -> Answered:
    """Returns the answers to the prompts of all blocks, paying only for those that are not in the
    ledger. Both engines give the same rows and answers.

    Raises:
        as `answer_all`; with Ray also `MissingRayError` and `RayClusterError`.
    """
    # A batch is one upload by one process, however many machines there are.
    if EngineSettings().engine is Engine.RAY and step.config.batch is None:
        from tasks.llm.ray_engine import answer_on_ray

        return answer_on_ray(step, plan, blocks, place)

    def prompts() -> Iterator[pl.DataFrame]:
        for block in blocks:
            for rows in plan(block):
                place(rows.drop(PROMPT))
                yield prompts_of(rows)

    return answer_all(step, prompts())
