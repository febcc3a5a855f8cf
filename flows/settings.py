"""Where things lie, and defaults for the LLM side: environment variables and ``.env``.

Every field is read from ``LLM4CDSR_<FIELD>``. Keys are not settings: see `tasks.llm_config`.
"""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.llm_config import ChatConfig, EmbeddingConfig, LlmConfig, Provider


class Settings(BaseSettings):
    """Places and endpoints of this machine; what a run does is given by its parameters."""

    model_config = SettingsConfigDict(env_prefix="LLM4CDSR_", env_file=".env", extra="ignore")

    store: str = Field(
        default="artifacts/data", description="Artifact store: a folder, or an fsspec URL."
    )
    local_vllm: Path = Field(
        default=Path(".venv-vllm"), description="Environment of the local vLLM pair."
    )
    provider: Provider = Provider.AUTO
    chat_base_url: str | None = None
    chat_model: str | None = None
    embed_base_url: str | None = None
    embed_model: str | None = None


def default_llm(settings: Settings) -> LlmConfig:
    """Returns the LLM configuration that the environment describes."""
    return LlmConfig(
        provider=settings.provider,
        chat=ChatConfig(base_url=settings.chat_base_url, model=settings.chat_model),
        embedding=EmbeddingConfig(base_url=settings.embed_base_url, model=settings.embed_model),
    )
