"""The base of what crosses an edge: settings, manifests, messages, results of stages."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen value; a name that it does not know is an error, not something to pass over."""

    model_config = ConfigDict(extra="forbid", frozen=True)
