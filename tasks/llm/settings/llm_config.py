"""Which models answer, where, and how hard they may be driven. Holds no key: see `api_key`."""

import os
from pathlib import Path
from typing import Annotated, cast

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, SecretStr, StringConstraints

from artifacts.ledger.answers import Role
from artifacts.strict import Strict
from artifacts.user_error import UserError
from prompts.language import Language
from tasks.llm.settings.batch_config import BatchConfig
from tasks.llm.settings.budget import Budget, Price
from tasks.llm.settings.provider import Provider
from tasks.llm.settings.request_fields import RequestFields
from tasks.llm.settings.urls import holding_no_credentials

OPENAI_KEY_VARIABLE = "OPENAI_API_KEY"
OWN_KEY_VARIABLE = "LLM4CDSR_API_KEY"
NO_KEY = "none"

URL_LIST = r"^https?://[^\s,]+(\s*,\s*https?://[^\s,]+)*$"

PACE = frozenset({"concurrency", "timeout_seconds", "requests_per_minute", "tokens_per_minute"})
"""Fields of a model's configuration that change when it answers, and not what."""


UrlList = Annotated[
    str, StringConstraints(pattern=URL_LIST), AfterValidator(holding_no_credentials)
]


class ChatConfig(Strict):
    """The model that writes profiles."""

    model_config = ConfigDict(hide_input_in_errors=True)

    base_url: UrlList | None = Field(
        default=None,
        description="OpenAI-compatible URL up to /v1; several of one model, separated by commas, "
        "share the work.",
    )
    model: str | None = Field(default=None, description="Its name at that URL.")
    temperature: float = Field(
        default=0.2,
        ge=0,
        description="The paper's prompts used 0.5; lower keeps small models at the facts.",
    )
    analyze_tokens: int = Field(default=80, ge=8, description="Limit of one partial interest.")
    summarize_tokens: int = Field(default=140, ge=8, description="Limit of one profile.")
    analyze_words: int = Field(
        default=50, ge=1, description="A longer partial interest is asked for once more, shorter."
    )
    summarize_words: int = Field(
        default=100, ge=1, description="A longer profile is asked for once more, shorter."
    )
    parameters: RequestFields = Field(
        default={}, description="Further fields of each request; null leaves out one of ours."
    )
    concurrency: int = Field(default=64, ge=1, description="Requests in flight at one URL.")
    timeout_seconds: float = Field(default=120, gt=0, description="Of one request.")
    requests_per_minute: float | None = Field(
        default=None, gt=0, description="Of all URLs together; no limit by default."
    )
    tokens_per_minute: float | None = Field(
        default=None, gt=0, description="Read and written, of all URLs together; no limit."
    )


class EmbeddingConfig(Strict):
    """The model that turns item texts and profiles into vectors."""

    model_config = ConfigDict(hide_input_in_errors=True)

    base_url: UrlList | None = Field(
        default=None,
        description="OpenAI-compatible URL up to /v1; several of one model, separated by commas, "
        "share the work.",
    )
    model: str | None = Field(default=None, description="Its name at that URL.")
    batch_size: int = Field(
        default=64, ge=1, description="Texts a request; a smaller limit of the server's is learnt."
    )
    parameters: RequestFields = Field(
        default={}, description="Further fields of each request; null leaves out one of ours."
    )
    concurrency: int = Field(default=8, ge=1, description="Requests in flight at one URL.")
    timeout_seconds: float = Field(default=120, gt=0, description="Of one request.")
    requests_per_minute: float | None = Field(
        default=None, gt=0, description="Of all URLs together; no limit by default."
    )
    tokens_per_minute: float | None = Field(
        default=None, gt=0, description="Read and written, of all URLs together; no limit."
    )


class LlmConfig(Strict):
    """Everything about the LLM side of a run."""

    model_config = ConfigDict(hide_input_in_errors=True)

    provider: Provider = Provider.AUTO
    chat: ChatConfig = ChatConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    language: Language = Language.ENGLISH
    api_key_secret: str | None = Field(
        default=None, description="Name of a Prefect Secret block with the API key."
    )
    batch: BatchConfig | None = Field(
        default=None, description="Ask in batches: cheaper, or without a server, but later."
    )
    max_retries: int = Field(default=6, ge=0, description="Of one request, with backoff.")
    outage_minutes: float = Field(
        default=10,
        ge=0,
        description="How long a run waits for servers that are down before it stops, all kept.",
    )
    local_gpu_python: Path | None = Field(
        default=None,
        description="Interpreter of an environment with a CUDA build of vLLM, which then serves "
        "the local pair where there is a GPU.",
    )
    budget: Budget = Budget()
    prices: dict[str, Price] = Field(
        default={}, description="USD per million tokens by model; adds to the list that ships."
    )
    shard_size: int = Field(default=2048, ge=1, description="Prompts a Prefect task run.")
    max_failed_share: float = Field(
        default=0.05, ge=0, le=1, description="A stage with more failed prompts than this fails."
    )

    def what_decides_answers(self) -> dict[str, JsonValue]:
        """Who is asked for what, where it is not the default; not how fast, nor for how much."""
        models = {
            "chat": self.chat.model_dump(mode="json", exclude=set(PACE), exclude_defaults=True),
            "embedding": self.embedding.model_dump(
                mode="json", exclude={*PACE, "batch_size"}, exclude_defaults=True
            ),
        }
        asked = self.model_dump(
            mode="json", include={"provider", "language"}, exclude_defaults=True
        )
        return asked | {role: given for role, given in models.items() if given}


class EndpointSpec(Strict):
    """One reachable model: what a shard needs to know, and nothing secret.

    ``fixed_fields`` are those of ``parameters`` that were configured: they are not left out where
    a server refuses them.
    """

    role: Role = Role.CHAT
    base_url: str | None
    model: str
    concurrency: int
    timeout_seconds: float
    max_retries: int
    batch_size: int = 1
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    outage_seconds: float = 600.0
    price: Price | None = None
    key_variable: str | None = None
    key_secret: str | None = None
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    fixed_fields: tuple[str, ...] = ()

    @property
    def urls(self) -> tuple[str | None, ...]:
        """The URLs of ``base_url``; None stands for OpenAI's own."""
        if self.base_url is None:
            return (None,)
        return tuple(url.strip().rstrip("/") for url in self.base_url.split(","))


class NoApiKeyError(UserError, RuntimeError):
    """The endpoint wants a key and none is configured."""


def key_in(variable: str) -> str:
    """Returns the key that an environment variable holds; an empty text where it holds none."""
    # Copied from a file or a page, a key easily has a newline, which no header may hold.
    return os.environ.get(variable, "").strip()


def api_key(spec: EndpointSpec) -> SecretStr:
    """Returns the key of an endpoint: from its Prefect Secret block or environment variable.

    OPENAI_API_KEY goes to OpenAI (or where OPENAI_BASE_URL points) only; a server behind a
    configured URL is shown LLM4CDSR_API_KEY, and one that the pipeline started is shown none.

    Raises:
        NoApiKeyError: the endpoint is OpenAI's and there is no key, or the block is empty.
    """
    if spec.key_secret is not None:
        # Settings are read by every command, and few need Prefect, which takes long to import.
        from prefect.blocks.system import Secret

        block = cast(Secret[str], Secret.load(spec.key_secret))
        if key := str(block.get()).strip():
            return SecretStr(key)
        raise NoApiKeyError(
            f"the Prefect Secret block {spec.key_secret} is empty; put the key into it"
        )
    if spec.key_variable is None:
        return SecretStr(NO_KEY)
    key = key_in(spec.key_variable)
    if not key and spec.key_variable == OPENAI_KEY_VARIABLE:
        raise NoApiKeyError(
            f"the model {spec.model} needs a key: set {OPENAI_KEY_VARIABLE}, or name a Prefect "
            "Secret block in api_key_secret, or give the base_url of a server of your own"
        )
    return SecretStr(key or NO_KEY)
