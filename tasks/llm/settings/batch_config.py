"""Settings of batches: prompts answered later, at a lower price or without a server."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from pydantic import Field

from artifacts.strict import Strict
from tasks.llm.settings.budget import Budget, UnusableBudgetError


class BatchKind(StrEnum):
    """``api``: the endpoint's Batch API. ``vllm``: ``vllm run-batch`` on this machine."""

    API = "api"
    VLLM = "vllm"


class BatchStart(NamedTuple):
    """Command of a local model that answers a file of prompts (``-i`` and ``-o`` are appended), and
    its environment variables."""

    command: list[str]
    variables: Mapping[str, str]


class BatchConfig(Strict):
    """Batches in place of single requests; answers have the same ledger keys."""

    kind: BatchKind = BatchKind.API
    max_lines: int = Field(
        default=50_000, ge=1, description="Prompts per file; the API's limit is 50,000."
    )
    max_bytes: int = Field(
        default=200_000_000, ge=1, description="Bytes per file; the API's limit is 200 MB."
    )
    in_flight: int = Field(
        default=8,
        ge=1,
        description="Batches submitted at the same time; others are queued locally.",
    )
    rounds: int = Field(
        default=3,
        ge=1,
        description="Maximum submissions of a prompt that expired or failed temporarily.",
    )
    price_share: float = Field(
        default=0.5,
        ge=0,
        description="Price as a share of that of single requests; OpenAI charges half.",
    )
    poll_seconds: float = Field(default=30, gt=0, description="Seconds between status requests.")
    vllm_command: tuple[str, ...] = Field(
        default=("vllm", "run-batch"),
        description="Command without -i and -o; the local servers have their own.",
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
        default=None,
        description="Folder or name of the embedding weights; the model's name if None.",
    )


def refuse_budget_in_batches(config: BatchConfig | None, budget: Budget) -> None:
    """Raises `UnusableBudgetError`, because a submitted batch cannot be stopped at a budget."""
    if config is not None and budget != Budget():
        raise UnusableBudgetError(
            "a budget cannot stop a submitted batch; estimate the cost by --dry-run, then omit the "
            "limits (--max-usd, --max-tokens, --max-requests) or --batch"
        )
