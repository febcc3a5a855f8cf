"""Settings of a machine from environment variables and ``.env``: paths and LLM defaults.

Each field is read from ``LLM4CDSR_<FIELD>``. Keys are not settings: see
`tasks.llm.settings.llm_config`.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue
from pydantic_settings import BaseSettings, SettingsConfigDict

from artifacts.remote.url_credentials import hide_credentials
from tasks.llm.settings.batch_config import BatchConfig
from tasks.llm.settings.budget import Price
from tasks.llm.settings.llm_config import (
    ChatConfig,
    EmbeddingConfig,
    LlmConfig,
    Provider,
    ServedModelConfig,
)
from tasks.llm.settings.request_fields import RequestFields
from tasks.system.dot_env import PREFIX


class Settings(BaseSettings):
    """Paths and endpoints of this machine; the work of a run is set by its parameters."""

    model_config = SettingsConfigDict(
        env_prefix="LLM4CDSR_", env_file=".env", extra="ignore", hide_input_in_errors=True
    )

    store: Annotated[str, AfterValidator(hide_credentials)] = Field(
        default="artifacts/data", description="Artifact store: a folder, or an fsspec URL."
    )
    local_vllm: Path = Field(
        default=Path(".venv-vllm"),
        description="Folder of the Python environment of the local vLLM servers.",
    )
    local_vllm_gpu_python: Path | None = Field(
        default=None, description="Python interpreter with a CUDA build of vLLM."
    )
    provider: Provider = Provider.AUTO
    api_key_secret: str | None = Field(
        default=None, description="Name of a Prefect Secret block with the API key."
    )
    chat_base_url: str | None = None
    chat_model: str | None = None
    embed_base_url: str | None = None
    embed_model: str | None = None
    chat_concurrency: int | None = None
    embed_concurrency: int | None = None
    embed_batch_size: int | None = Field(default=None, description="Texts per request; 64.")
    chat_parameters: RequestFields = Field(
        default={},
        description="Further fields of chat requests, as JSON; null removes a default field.",
    )
    embed_parameters: RequestFields = Field(
        default={}, description="Further fields of embedding requests, as JSON."
    )
    chat_requests_per_minute: float | None = None
    chat_tokens_per_minute: float | None = None
    embed_requests_per_minute: float | None = None
    embed_tokens_per_minute: float | None = None
    outage_minutes: float | None = Field(
        default=None, ge=0, description="Maximum wait for servers that are down, in minutes; 10."
    )
    serve_url: str = Field(
        default="http://localhost:8080",
        description="Address of `llm4cdsr serve-recs`, for the link to the report in Prefect.",
    )
    mlflow_uri: str | None = Field(
        default=None,
        description="MLflow tracking server that records each release; needs the extra mlflow.",
    )
    prices: dict[str, Price] = Field(
        default={}, description="USD per million tokens, as JSON: model -> prompt, completion."
    )
    batches: BatchConfig = Field(
        default=BatchConfig(),
        description="Settings of --batch, as JSON; for vllm the command, arguments and weights.",
    )


ELSEWHERE = (
    "API_KEY",  # the key is not a setting
    "CACHE",
    "WEBHOOK_URL",
    "UI_ORIGINS",
    "DUMP_LINKS",
    "DUMP_MAX_RATIO",
    "DUMP_MAX_GB",
    "STORE_GROUP",
    "SHOWN_USERS",
    "SERVE_TOKEN",
    "SERVE_HOSTS",
    "SERVE_IMAGES",
    "SERVE_IMAGE_HOSTS",
    "DUMPS",  # fields of `flows.operating.OperatingSettings`, which is slow to import
    "DUMP_WAIT_HOURS",
    "KEEP_RELEASES",
    "KEEP_RUNS_DAYS",
    "ENGINE",  # fields of `tasks.llm.settings.engine.EngineSettings`
    "RAY_ADDRESS",
    "RAY_PROCESSES",
    "STAGE_RETRIES",
    "FLOW_TIMEOUT_HOURS",
)
"""Variables that other modules read."""


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """Returns a sentence for each unknown ``LLM4CDSR_`` variable, for example a misspelt one."""
    known = {f"{PREFIX}{field.upper()}" for field in (*Settings.model_fields, *ELSEWHERE)}
    told = []
    for name in sorted(set(environment) - known):
        if name.startswith(PREFIX):
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "docs/settings.md lists them"
            told.append(f"{name} is no setting and changes nothing; {hint}")
    return told


def default_llm(settings: Settings) -> LlmConfig:
    """Returns the LLM configuration of the environment; unset fields keep their defaults."""
    config = LlmConfig(
        provider=settings.provider,
        chat=ChatConfig.model_validate(_given(settings, "chat", ChatConfig)),
        embedding=EmbeddingConfig.model_validate(_given(settings, "embed", EmbeddingConfig)),
        prices=settings.prices,
        api_key_secret=settings.api_key_secret,
        local_gpu_python=settings.local_vllm_gpu_python,
    )
    if settings.outage_minutes is None:
        return config
    return config.model_copy(update={"outage_minutes": settings.outage_minutes})


def _given(settings: Settings, prefix: str, model: type[ServedModelConfig]) -> dict[str, JsonValue]:
    """Returns the settings of one model: LLM4CDSR_<PREFIX>_<FIELD>."""
    given = {field: getattr(settings, f"{prefix}_{field}", None) for field in model.model_fields}
    return {field: value for field, value in given.items() if value not in (None, {})}
