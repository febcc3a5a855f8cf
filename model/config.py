"""Every switch of the model and of its training, and the presets that set them.

A preset is a TOML file in `presets/`; `docs/deviations.md` says what each switch does.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PRESET_FOLDER = Path(__file__).parent / "presets"


class ModelInputError(ValueError):
    """The base of errors that the user's data or settings cause; the model knows no other room."""


class UnknownPresetError(ModelInputError, KeyError):
    """No preset of that name; the message lists those there are."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelConfig(_Settings):
    """What the network computes."""

    hidden: int = Field(128, ge=1)
    """Width of every thread, and of the local tables. The paper's 128."""
    blocks: int = Field(2, ge=1)
    """Encoder blocks per thread. The paper's 2."""
    heads: int = Field(1, ge=1)
    """Attention heads; must divide `hidden`. The paper's 1."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Probability of dropping an activation in a thread. The paper's 0.5."""
    max_length: int = Field(200, ge=1)
    """Newest events of a history that are read. The paper's 200."""
    event_dropout: float = Field(0.0, ge=0, lt=1)
    """Probability of hiding a whole input event from a thread in training. The paper has none."""
    block: Literal["sasrec", "pre_norm"] = "sasrec"
    """`sasrec` normalises the query only and adds to it; `pre_norm` is the usual residual block."""
    positions: Literal["learned", "rotary"] = "learned"
    """How order is told: a learned vector per position (paper), or rotated queries and keys."""
    causal: bool = True
    """False lets a position see its own target, as the released code did (METHOD 7.1)."""
    input_scale: float | None = Field(None, gt=0)
    """Factor on item vectors entering a thread; none: the square root of `hidden` (METHOD 7.18)."""
    global_thread: bool = True
    """Off: local threads alone (ablation)."""
    local_threads: bool = True
    """Off: the global thread alone (ablation)."""
    local_tables: Literal["trainable", "frozen"] = "trainable"
    """Frozen tables cannot learn what an item is beyond its text (METHOD 7.4)."""
    local_start: Literal["text", "random"] = "text"
    """Starting values of the local tables: the PCA of the item texts, or noise (ablation)."""
    global_items: Literal["text", "ids"] = "text"
    """`ids` replaces text and adapter by a trainable vector per item, random at first, as in SASRec
    (ablation and baseline; knows no new items)."""
    global_correction: bool = False
    """Add a trainable row per item, zero at first, to the adapted text: an item that the data know
    well may depart from its text, a new one has its text alone."""
    scoring: Literal["dot", "cosine"] = "dot"
    """How a thread compares its state with an item; cosine is divided by `temperature`."""
    temperature: float = Field(0.05, gt=0)
    """Divisor of cosine scores; unused by dot products."""
    members: int = Field(1, ge=1)
    """Models of this width trained side by side on the same batches, each by its own loss; the
    score is the mean of theirs. They differ by chance alone, and their mean errs less. They share
    the first layer of the adapter and the adapter of profiles."""
    bridge_factors: int = Field(0, ge=0)
    """Factors of the smaller of two factorisations a domain. From them and the item texts the
    bridge predicts what a user without an event in the asked domain chooses there (METHOD 9);
    0: no bridge, the global thread scores alone."""
    memory_events: int = Field(0, ge=0)
    """Newest events that look up what followed them in training; 0: no transition memory."""
    memory_reach: int = Field(10, ge=1)
    """Events between which a succession is counted, a pair at distance n as 1/n."""
    memory_neighbours: int = Field(0, ge=0)
    """Items of each domain that the memory holds beside an item's successions: those that most of
    the same users met, whatever the order; 0: successions alone. Needs `memory_events`."""

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError(f"hidden={self.hidden} must split into {self.heads} even-sized heads")
        if not (self.global_thread or self.local_threads):
            raise ValueError("switch on global_thread, local_threads or both: nothing would score")
        return self


class TrainConfig(_Settings):
    """How the network is fitted."""

    loss: Literal["bce", "softmax"] = "bce"
    """`bce`: the paper's binary loss; `softmax`: the target among many items at once."""
    negatives: int = Field(1, ge=0)
    """bce: drawn per event. softmax: items shared by a batch, per domain; 0: all items."""
    agreement: float = Field(0.0, ge=0)
    """Weight of agreement between two passes of a batch that differ by dropout alone (R-Drop, Liang
    et al. 2021); needs `softmax`, costs half as much time again; 0: one pass, as in the paper."""
    alpha: float = Field(0.1, ge=0)
    """Weight of the adapter's contrastive regulariser; 0 switches it off. The paper's 0.1."""
    beta: float = Field(0.1, ge=0)
    """Weight of aligning the global thread with profiles; 0 switches it off. The paper's 0.1."""
    contrastive_temperature: float = Field(1.0, gt=0)
    """Divides the logits of both contrastive losses."""
    contrastive_targets: Literal["soft", "identity"] = "soft"
    """`soft`: similar pairs share the target, as released; `identity`: plain InfoNCE."""
    first_crossing: bool = True
    """Learn the first event of a domain from the global thread alone (METHOD 7.14)."""
    mismatched_negatives: bool = False
    """Score two different random items as one negative, as the released code did (METHOD 7.2)."""
    batch_size: int = Field(128, ge=1)
    """Users per step. The paper's 128."""
    accumulate: int = Field(1, ge=1)
    """Micro-batches that a batch is cut into when it does not fit in memory. Their gradients add up
    to the batch's; only the alignment with profiles sees one micro-batch at a time."""
    learning_rate: float = Field(1e-3, gt=0)
    """Adam's step size. The paper's 1e-3."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay (AdamW) on matrices; 0 is the paper's plain Adam."""
    averaging: float = Field(0.0, ge=0, lt=1)
    """Share of a running average of the weights that stays per step; that average is then validated
    and kept. 0.99 averages about the last hundred steps, 0 switches it off."""
    table_update: Literal["dense", "lazy"] = "dense"
    """`lazy` lets Adam touch only the step's table rows: their moments do not decay in between.
    For catalogues so large that a dense step would cost more than the model."""
    max_epochs: int = Field(200, ge=1)
    """Passes over the users; early stopping usually ends sooner."""
    patience: int = Field(20, ge=1)
    """Validations without a better NDCG@10 before stopping. The paper's 20."""
    patience_steps: int = Field(100, ge=0)
    """And at least so many steps without one: a small shop's epoch is a few steps, and its
    validation rests on few events."""
    validate_every: int = Field(1, ge=1)
    """Epochs between validations; the last epoch has one in any case."""
    validation_users: int | None = Field(None, ge=1)
    """Validate on this many held-out events, one a user where a split leaves one out; chosen by the
    seed, none means all."""
    validation_candidates: int | None = Field(None, ge=1)
    """Validate against this many unseen items of the target's domain, drawn once an event; none
    means all. For catalogues too large to rank at every validation; the figure is then much
    higher, and `evaluate` still ranks them all."""
    max_seconds: float | None = Field(None, gt=0)
    """Stop after the epoch in which this much training time is spent; the machine then matters."""
    refit: bool = False
    """Once validation has chosen the number of epochs, train anew for as many on training and
    validation events together: the last model then knows everything before the test event."""
    unmet_items: Literal["nearest", "trained"] = "nearest"
    """Items without a training event: after training they take after the known item whose text is
    `nearest`, or stay as `trained`, where being negatives alone has pushed them (METHOD 8)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 runs a training step under autocast, its loss included: matrices are multiplied in
    half precision. Weights, validation and ranking stay float32."""
    seed: int = Field(0, ge=0)
    """Fixes initial weights, batches, negatives and dropout."""

    @model_validator(mode="after")
    def _fits_its_loss(self) -> TrainConfig:
        if self.agreement and self.loss != "softmax":
            raise ValueError(
                'agreement compares two softmaxes: set loss = "softmax", or leave it 0'
            )
        if self.loss == "bce" and not self.negatives:
            raise ValueError('loss = "bce" learns nothing from targets alone: set negatives >= 1')
        if self.mismatched_negatives and self.loss != "bce":
            raise ValueError('mismatched_negatives mixes the pairs of loss = "bce" only')
        return self


class TriThreadConfig(_Settings):
    """The whole configuration of a model, as it is stored beside its weights."""

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
    """A preset with some values replaced: `load_preset("best", {"train": {"seed": 7}})`.

    Raises UnknownPresetError, or pydantic's ValidationError for a value that cannot be.
    """
    path = PRESET_FOLDER / f"{name}.toml"
    if name not in preset_names():
        raise UnknownPresetError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    for section, changes in (overrides or {}).items():
        values[section] = {**values.get(section, {}), **changes}
    return TriThreadConfig.model_validate(values)
