"""How prompts are asked when nobody waits for them: in batches, at a lower price or without a
server."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from pydantic import Field

from artifacts.strict import Strict
from artifacts.user_error import UserError
from tasks.llm.settings.budget import Budget


class BatchKind(StrEnum):
    """``api``: the endpoint's Batch API. ``vllm``: ``vllm run-batch`` on this machine."""

    API = "api"
    VLLM = "vllm"


class BatchStart(NamedTuple):
    """How a model of this machine answers a file of prompts: the start of a command, to which
    ``-i`` and ``-o`` are added, and its environment variables."""

    command: list[str]
    variables: Mapping[str, str]


class NoBudgetInBatchesError(UserError, ValueError):
    """A budget was set for a run that asks in batches."""


class BatchConfig(Strict):
    """Batches instead of one request a prompt. Answers and their keys are the same."""

    kind: BatchKind = BatchKind.API
    max_lines: int = Field(
        default=50_000, ge=1, description="Prompts a file; the API takes 50,000."
    )
    max_bytes: int = Field(
        default=200_000_000, ge=1, description="Bytes a file; the API takes 200 MB."
    )
    in_flight: int = Field(
        default=8, ge=1, description="Batches that wait at once; more queue here."
    )
    rounds: int = Field(
        default=3,
        ge=1,
        description="How often a prompt is sent that expired or met a passing fault.",
    )
    price_share: float = Field(
        default=0.5, ge=0, description="Of the price of a single request; OpenAI takes half."
    )
    poll_seconds: float = Field(default=30, gt=0, description="Between two looks at a batch.")
    vllm_command: tuple[str, ...] = Field(
        default=("vllm", "run-batch"),
        description="Start of the command; the local pair has its own.",
    )
    vllm_chat_arguments: tuple[str, ...] = Field(
        default=(), description="Further arguments for chat, as ('--max-model-len', '2048')."
    )
    vllm_embedding_arguments: tuple[str, ...] = Field(
        default=("--runner", "pooling"), description="Further arguments for embeddings."
    )
    vllm_chat_weights: str | None = Field(
        default=None, description="Folder or name of the chat weights; the model's name if None."
    )
    vllm_embedding_weights: str | None = Field(
        default=None, description="The same for the embedding model."
    )


def refuse_budget_in_batches(config: BatchConfig | None, budget: Budget) -> None:
    """Raises `NoBudgetInBatchesError`: what is sent in a batch is spent, not held back."""
    if config is not None and budget != Budget():
        raise NoBudgetInBatchesError(
            "a budget cannot stop what waits in a batch; look at the cost with --dry-run, then "
            "leave out the limits (--max-usd, --max-tokens, --max-requests) or --batch"
        )
