"""Configuration of the model and its training, and the presets.

A preset is a TOML file in `presets/`; `docs/deviations.md` has the effect of each switch.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

PRESET_FOLDER = Path(__file__).parent / "presets"

REMOVED = MappingProxyType(
    {
        "event_dropout": 0.0,
        "positions": "learned",
        "contrastive_temperature": 1.0,
        "validate_every": 1,
    }
)
"""Settings of earlier versions, each with its only remaining value. Stored configurations that hold
that value are still read."""

RENAMED = MappingProxyType(
    {"members": "ensemble_size", "agreement": "r_drop_weight", "unmet_items": "cold_items"}
)
"""Earlier names of settings. Files keep them, so that identities of artifacts and checkpoints stay
valid; users get an error that names the new one."""

STORED = "a stored configuration"
"""Validation context in which a configuration is read with the names that files keep."""


class ModelInputError(ValueError):
    """Base of errors caused by the user's data or settings; `model` imports no other package."""


class UnknownPresetError(ModelInputError, KeyError):
    """Unknown preset; the message lists the presets."""


class _Settings(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, serialize_by_alias=True
    )

    @model_validator(mode="before")
    @classmethod
    def _with_present_names(cls, values: object, info: ValidationInfo) -> object:
        if not isinstance(values, dict):
            return values
        for name, kept in REMOVED.items():
            if values.get(name, kept) != kept:
                raise ValueError(
                    f"{name}={values[name]!r} is no longer supported; omit it, which means {kept!r}"
                )
        earlier = [name for name in RENAMED if name in values]
        if earlier and info.context != STORED:
            raise ValueError("; ".join(f"{name} is now {RENAMED[name]}" for name in earlier))
        return {
            RENAMED.get(name, name): value for name, value in values.items() if name not in REMOVED
        }


class ModelConfig(_Settings):
    """Architecture of the network."""

    hidden: int = Field(128, ge=1)
    """Width of every thread, and of the local tables. The paper's 128."""
    blocks: int = Field(2, ge=1)
    """Encoder blocks per thread. The paper's 2."""
    heads: int = Field(1, ge=1)
    """Attention heads; must divide `hidden`. The paper's 1."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Probability of dropping an activation in a thread. The paper's 0.5."""
    max_length: int = Field(200, ge=1)
    """Maximum length of a history: its newest events. The paper's 200."""
    block: Literal["sasrec", "pre_norm"] = "sasrec"
    """`sasrec` normalises the query only and adds the result to it; `pre_norm` is the standard
    pre-norm residual block."""
    causal: bool = True
    """Causal attention mask. False lets a position attend to its target, as the released code did
    (METHOD 7.1)."""
    input_scale: float | None = Field(None, gt=0)
    """Factor on the input item vectors of a thread; by default the square root of `hidden` (METHOD
    7.18)."""
    global_thread: bool = True
    """False: local threads only (ablation)."""
    local_threads: bool = True
    """False: global thread only (ablation)."""
    local_tables: Literal["trainable", "frozen"] = "trainable"
    """Whether local tables are trained; frozen tables represent the text only (METHOD 7.4)."""
    local_start: Literal["text", "random"] = "text"
    """Initial values of the local tables: the PCA of the item texts, or noise (ablation)."""
    global_items: Literal["text", "ids"] = "text"
    """`ids` replaces text and adapter by a trainable vector per item, random at first, as in SASRec
    (ablation and baseline; cannot score new items)."""
    global_correction: bool = False
    """Add a trainable vector per item, initially zero, to the adapted text embedding, so that items
    with many events can deviate from their text."""
    scoring: Literal["dot", "cosine"] = "dot"
    """Score of a state and an item: dot product, or cosine divided by `temperature`."""
    temperature: float = Field(0.05, gt=0)
    """Divisor of cosine scores; unused with dot products."""
    ensemble_size: int = Field(1, ge=1, serialization_alias="members")
    """Number of networks trained in parallel on the same batches, each with its own loss and
    initial weights; their scores are averaged. They share the first layer of the item adapter and
    the profile adapter."""
    bridge_factors: int = Field(0, ge=0)
    """Factors of the smaller of two factorisations per domain. From these and the item texts the
    bridge predicts the choices of users without an event in the target domain (METHOD 9); 0: no
    bridge, the global thread scores alone."""
    memory_events: int = Field(0, ge=0)
    """Number of newest events whose transitions are added to the score; 0: no transition memory."""
    memory_reach: int = Field(10, ge=1)
    """Maximum distance of counted transitions; a pair at distance n counts 1/n."""
    memory_neighbours: int = Field(0, ge=0)
    """Co-occurring items per item and domain in the memory, beside transitions: those with the most
    common users, regardless of order; 0: transitions only. Needs `memory_events`."""
    text_decay: float = Field(0.0, ge=0, lt=1)
    """Add the similarity of an item's text to those of the user's events in its domain, where an
    event weighs this factor less than the next one; 0: none. Fitted with the memory, hence needs
    `memory_events`; without effect in models of ids."""

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError(f"hidden={self.hidden} must split into {self.heads} even-sized heads")
        if not (self.global_thread or self.local_threads):
            raise ValueError("switch on global_thread, local_threads or both: nothing would score")
        return self


class TrainConfig(_Settings):
    """Training of the network."""

    loss: Literal["bce", "softmax"] = "bce"
    """`bce`: the paper's binary cross-entropy; `softmax`: cross-entropy over the target and many
    items."""
    negatives: int = Field(1, ge=0)
    """Number of negatives. bce: per event. softmax: per domain, shared by a batch; 0: all items."""
    r_drop_weight: float = Field(0.0, ge=0, serialization_alias="agreement")
    """Weight of R-Drop (Liang et al. 2021), the divergence of two passes that differ in dropout;
    needs `softmax`, takes 1.5 times the time; 0: one pass, as in the paper."""
    alpha: float = Field(0.1, ge=0)
    """Weight of the adapter's contrastive regulariser; 0 disables it. The paper's 0.1."""
    beta: float = Field(0.1, ge=0)
    """Weight of the alignment of the global thread with profiles; 0 disables it. The paper's
    0.1."""
    contrastive_targets: Literal["soft", "identity"] = "soft"
    """`soft`: targets by similarity, as in the released code; `identity`: InfoNCE."""
    first_crossing: bool = True
    """Train on a user's first event in a domain, with the global thread only (METHOD 7.14)."""
    recency: float = Field(0.0, ge=0)
    """A target with n newer ones of the same user weighs `recency / (recency + n)` in the loss;
    0: all weigh the same, as in the paper."""
    mismatched_negatives: bool = False
    """Score a negative's two threads on two different random items, as the released code did
    (METHOD 7.2)."""
    batch_size: int = Field(128, ge=1)
    """Users per step. The paper's 128."""
    accumulate: int = Field(1, ge=1)
    """Micro-batches per batch (gradient accumulation). Gradients add up to the batch's, except for
    the profile alignment, which is computed within a micro-batch."""
    learning_rate: float = Field(1e-3, gt=0)
    """Adam's step size. The paper's 1e-3."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay (AdamW) on matrices; 0 is the paper's plain Adam."""
    averaging: float = Field(0.0, ge=0, lt=1)
    """Decay per step of an exponential moving average of the weights, which is validated and kept.
    0.99 averages about the last hundred steps; 0 disables it."""
    table_update: Literal["dense", "lazy"] = "dense"
    """`lazy`: Adam updates only the table rows of the step, without decay of the other rows'
    moments. For catalogues in which dense updates dominate the time of a step."""
    max_epochs: int = Field(200, ge=1)
    """Maximum passes over the users; early stopping usually ends training sooner."""
    patience: int = Field(20, ge=1)
    """Validations without a better NDCG@10 before stopping. The paper's 20."""
    patience_steps: int = Field(100, ge=0)
    """Minimum steps without improvement before stopping, because epochs of small data sets have few
    steps and noisy validation."""
    validation_users: int | None = Field(None, ge=1)
    """Validate on a seeded sample of this many held-out events (one per user with leave-one-out);
    by default all."""
    validation_candidates: int | None = Field(None, ge=1)
    """Validate against this many sampled unseen items of the target's domain, fixed per event; by
    default all. For large catalogues; sampled metrics are much higher, and `evaluate` still ranks
    all items."""
    max_seconds: float | None = Field(None, gt=0)
    """Seconds for loading, search, validation, fits and refit together: the search ends while fits
    and refit still fit, a slow epoch is given up, and a refit that does not finish gives way to the
    model of the search. At least one epoch is begun; results depend on the machine."""
    refit: bool = False
    """After validation has selected the number of epochs, retrain for as many on training and
    validation events."""
    cold_items: Literal["nearest", "trained"] = Field("nearest", serialization_alias="unmet_items")
    """Vectors of cold items (without a training event) after training: `nearest` copies those of
    the known item with the nearest text, `trained` keeps theirs, trained as negatives only (METHOD
    8)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 runs a training step under autocast, including its loss. Weights, validation and
    ranking stay float32."""
    seed: int = Field(0, ge=0)
    """Seed of initial weights, batches, negatives and dropout."""

    @model_validator(mode="after")
    def _fits_its_loss(self) -> TrainConfig:
        if self.r_drop_weight and self.loss != "softmax":
            raise ValueError(
                'r_drop_weight compares two softmaxes: set loss = "softmax", or leave it 0'
            )
        if self.loss == "bce" and not self.negatives:
            raise ValueError('loss = "bce" cannot learn from targets alone: set negatives >= 1')
        if self.mismatched_negatives and self.loss != "bce":
            raise ValueError('mismatched_negatives mixes the pairs of loss = "bce" only')
        return self


class TriThreadConfig(_Settings):
    """Complete configuration of a model, stored beside its weights."""

    model: ModelConfig = Field(default_factory=lambda: ModelConfig.model_validate({}))
    train: TrainConfig = Field(default_factory=lambda: TrainConfig.model_validate({}))

    @model_validator(mode="after")
    def _has_what_it_mixes(self) -> TriThreadConfig:
        if self.train.mismatched_negatives and not (
            self.model.global_thread and self.model.local_threads
        ):
            raise ValueError("mismatched_negatives mixes global and local vectors: it needs both")
        return self


def preset_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in PRESET_FOLDER.glob("*.toml")))


def load_preset(
    name: str, overrides: Mapping[str, Mapping[str, object]] | None = None
) -> TriThreadConfig:
    """Returns a preset with overridden values: `load_preset("best", {"train": {"seed": 7}})`.

    Raises UnknownPresetError, or pydantic's ValidationError for an invalid value.
    """
    path = PRESET_FOLDER / f"{name}.toml"
    if name not in preset_names():
        raise UnknownPresetError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    for section, changes in (overrides or {}).items():
        values[section] = {**values.get(section, {}), **changes}
    return TriThreadConfig.model_validate(values)
