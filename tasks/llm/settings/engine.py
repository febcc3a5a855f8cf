"""Where the stages that grow with users and items plan and send their prompts.

Read from ``LLM4CDSR_<FIELD>``: a setting of the machine, never of a run.
"""

from enum import StrEnum

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Engine(StrEnum):
    """Threads of the run's process, or the workers of a Ray cluster."""

    THREADS = "threads"
    RAY = "ray"


class EngineSettings(BaseSettings):
    """Engine of `embed items` and `profile users`."""

    model_config = SettingsConfigDict(env_prefix="LLM4CDSR_", env_file=".env", extra="ignore")

    engine: Engine = Engine.THREADS
    ray_address: str | None = Field(
        default=None, description="Address of a Ray head; by default a local cluster is started."
    )
    ray_processes: int = Field(default=2, ge=1, description="Processes of a local Ray cluster.")
