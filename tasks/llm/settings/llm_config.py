"""Settings of the LLMs: models, URLs, parameters, limits. Keys are not stored here: see
`api_key`."""

import os
import re
from pathlib import Path
from typing import Annotated, cast

from pydantic import AfterValidator, Field, JsonValue, SecretStr, StringConstraints

from artifacts.ledger.answers import Role
from artifacts.strict import Strict
from artifacts.user_error import InvalidSettingError, UserError
from prompts.language import Language
from tasks.llm.settings.batch_config import BatchConfig
from tasks.llm.settings.budget import Budget, Price
from tasks.llm.settings.provider import Provider
from tasks.llm.settings.request_fields import RequestFields
from tasks.llm.settings.urls import require_no_credentials

OPENAI_KEY_VARIABLE = "OPENAI_API_KEY"
OWN_KEY_VARIABLE = "LLM4CDSR_API_KEY"
NO_KEY = "none"

SHORTEST_SECRET = 8
"""Minimum length of a key that other words do not contain by chance."""

_LEAST_SHOWN = 4
"""Least characters of a cut key that are masked."""

URL_LIST = r"^https?://[^\s,]+(\s*,\s*https?://[^\s,]+)*$"

PACE = frozenset({"concurrency", "timeout_seconds", "requests_per_minute", "tokens_per_minute"})
"""Fields of a model's configuration that affect speed but not answers."""


UrlList = Annotated[
    str, StringConstraints(pattern=URL_LIST), AfterValidator(require_no_credentials)
]


class ServedModelConfig(Strict, hide_input_in_errors=True):
    """Settings of every model: URL, name, and limits of its requests."""

    base_url: UrlList | None = Field(
        default=None,
        description="OpenAI-compatible URL up to /v1; several of one model, separated by commas, "
        "share the requests.",
    )
    model: Annotated[str, StringConstraints(strip_whitespace=True)] | None = Field(
        default=None, description="Name of the model at that URL."
    )
    parameters: RequestFields = Field(
        default={}, description="Further fields of each request; null removes a default field."
    )
    concurrency: int = Field(default=64, ge=1, description="Requests in flight per URL.")
    timeout_seconds: float = Field(default=120, gt=0, description="Timeout of one request.")
    requests_per_minute: float | None = Field(
        default=None,
        gt=0,
        description="Maximum requests per minute to all URLs together; unlimited by default.",
    )
    tokens_per_minute: float | None = Field(
        default=None,
        gt=0,
        description="Maximum input and output tokens per minute of all URLs together; unlimited by "
        "default.",
    )


class ChatConfig(ServedModelConfig):
    """The model that writes profiles."""

    temperature: float = Field(
        default=0.2,
        ge=0,
        description="Sampling temperature; the paper's prompts used 0.5, lower values make small "
        "models more factual.",
    )
    analyze_tokens: int = Field(
        default=80, ge=8, description="Maximum tokens of a partial interest."
    )
    summarize_tokens: int = Field(default=140, ge=8, description="Maximum tokens of a profile.")
    analyze_words: int = Field(
        default=50,
        ge=1,
        description="Maximum words of a partial interest; a longer one is requested again.",
    )
    summarize_words: int = Field(
        default=100,
        ge=1,
        description="Maximum words of a profile; a longer one is requested again.",
    )


class EmbeddingConfig(ServedModelConfig):
    """The model that embeds item texts and profiles."""

    batch_size: int = Field(
        default=64,
        ge=1,
        description="Texts per request; reduced automatically to the server's limit.",
    )
    concurrency: int = Field(default=8, ge=1, description="Requests in flight per URL.")


class LlmConfig(Strict, hide_input_in_errors=True):
    """All LLM settings of a run."""

    provider: Provider = Field(
        default=Provider.AUTO,
        description="Source of answers; auto: configured URL, else OpenAI if its key is set, else "
        "local.",
    )
    chat: ChatConfig = ChatConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    language: Language = Field(
        default=Language.ENGLISH, description="Language of prompts and profiles."
    )
    api_key_secret: str | None = Field(
        default=None, description="Name of a Prefect Secret block with the API key."
    )
    batch: BatchConfig | None = Field(
        default=None,
        description="Batches in place of single requests: lower price or no server, later answers.",
    )
    max_retries: int = Field(
        default=6, ge=0, description="Retries of one request, with exponential backoff."
    )
    outage_minutes: float = Field(
        default=10,
        ge=0,
        description="Maximum wait for servers that are down; answers are kept.",
    )
    local_gpu_python: Path | None = Field(
        default=None,
        description="Python interpreter with a CUDA build of vLLM, used for the local servers if a "
        "GPU is present.",
    )
    budget: Budget = Budget()
    prices: dict[str, Price] = Field(
        default={}, description="USD per million tokens by model; extends the built-in list."
    )
    shard_size: int = Field(default=2048, ge=1, description="Prompts per Prefect task run.")
    max_failed_share: float = Field(
        default=0.05, ge=0, le=1, description="Maximum share of failed prompts of a stage."
    )

    def of(self, role: Role) -> ChatConfig | EmbeddingConfig:
        """Returns the settings of a role's model."""
        return self.chat if role is Role.CHAT else self.embedding

    def answer_settings(self) -> dict[str, JsonValue]:
        """Returns the non-default settings that affect answers, without those of speed and cost."""
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
    """A reachable model, as data for shards, without secrets.

    ``fixed_fields``: configured fields of ``parameters``, which are not removed if a server refuses
    them.
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
    """The endpoint requires a key, and none is configured."""


def key_in(variable: str) -> str:
    """Returns the key in an environment variable; "" if it is unset.

    Raises:
        InvalidSettingError: the key contains a character that no HTTP header may contain.
    """
    return _checked(os.environ.get(variable, ""), variable)


def no_key(model: str) -> NoApiKeyError:
    """Returns the error for a missing OpenAI key."""
    return NoApiKeyError(
        f"the model {model} needs a key: set {OPENAI_KEY_VARIABLE}, or name a Prefect Secret "
        "block in api_key_secret, or give the base_url of a server of your own"
    )


def api_key(spec: EndpointSpec) -> SecretStr:
    """Returns the key of an endpoint: from its Prefect Secret block or environment variable.

    Only OpenAI (or the server of OPENAI_BASE_URL) receives OPENAI_API_KEY; a server of a configured
    URL receives LLM4CDSR_API_KEY, and one started by the pipeline receives no key.

    Raises:
        NoApiKeyError: the endpoint is OpenAI's and there is no key, or the block is empty.
        InvalidSettingError: the key contains a character that no HTTP header may contain.
    """
    if spec.key_secret is not None:
        # Imported here, because every command reads settings and Prefect is slow to import.
        from prefect.blocks.system import Secret

        block = cast(Secret[str], Secret.load(spec.key_secret))
        if key := _checked(str(block.get()), f"the Prefect Secret block {spec.key_secret}"):
            return SecretStr(key)
        raise NoApiKeyError(
            f"the Prefect Secret block {spec.key_secret} is empty; put the key into it"
        )
    if spec.key_variable is None:
        return SecretStr(NO_KEY)
    key = key_in(spec.key_variable)
    if not key and spec.key_variable == OPENAI_KEY_VARIABLE:
        raise no_key(spec.model)
    return SecretStr(key or NO_KEY)


def _checked(key: str, where: str) -> str:
    key = key.strip()  # A copied key may end in a newline.
    odd = next((sign for sign in key if not " " <= sign <= "~"), None)
    if odd is not None:
        raise InvalidSettingError(
            f"{where} contains the character U+{ord(odd):04X}, which no key has: copy the key as "
            "plain text, without quotation marks and line breaks"
        )
    return key


def masked(words: str, key: str) -> str:
    """Returns ``words`` with the key replaced by ``[key]``, also one cut by the end of the words. A
    short key is replaced only as a whole word: the key of many local servers is a word such as
    ``x``, which other words contain."""
    if key == NO_KEY:
        return words
    if len(key) >= SHORTEST_SECRET:
        words = words.replace(key, "[key]")
        said = words.removesuffix("…")
        for shown in range(len(key) - 1, _LEAST_SHOWN - 1, -1):
            if said.endswith(key[:shown]):
                return f"{said[:-shown]}[key]…"
        return words
    return re.sub(rf"(?<!\w){re.escape(key)}(?!\w)", "[key]", words)
