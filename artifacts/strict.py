"""Base model of settings, manifests, messages and stage results."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen model that rejects unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)
