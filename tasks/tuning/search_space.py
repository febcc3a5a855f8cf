"""Fields that `tune` searches, with their values.

Fields with a measured effect (docs/log.md). Not searched: the width, which the item tables fix; the
ensemble size, which multiplies the time of every trial and always helps (the tuned preset keeps
that of its base); early stopping and refit, which belong to the procedure of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.config import TriThreadConfig

if TYPE_CHECKING:
    from optuna.trial import Trial

Value = bool | int | float
Values = dict[str, Value]
"""Values by field, as `train.learning_rate`."""


@dataclass(frozen=True)
class SearchedField:
    """A field with its choices, or with the bounds of a logarithmic range.

    `needs`: condition on the base, `field=value`, or `field` for a value other than 0.
    """

    name: str
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    needs: str = ""


FIELDS = (
    SearchedField("train.learning_rate", low=5e-4, high=8e-3),
    SearchedField("model.dropout", choices=(0.2, 0.3, 0.4, 0.5, 0.6)),
    SearchedField("train.r_drop_weight", choices=(0.0, 0.5, 2.0), needs="train.loss=softmax"),
    SearchedField("train.negatives", choices=(256, 1024, 4096), needs="train.loss=softmax"),
    SearchedField("train.batch_size", choices=(64, 128, 256)),
    SearchedField("train.averaging", choices=(0.9, 0.98, 0.99)),
    SearchedField("train.weight_decay", choices=(0.0, 0.1, 0.3)),
    SearchedField("train.recency", choices=(0.0, 3.0, 10.0)),
    SearchedField("model.temperature", low=0.05, high=0.2, needs="model.scoring=cosine"),
    SearchedField("model.local_threads", choices=(True, False), needs="model.global_thread"),
    SearchedField("model.memory_events", choices=(4, 8, 16), needs="model.memory_events"),
    SearchedField("model.memory_neighbours", choices=(0, 50), needs="model.memory_events"),
    SearchedField("model.text_decay", choices=(0.0, 0.7, 0.9, 0.97), needs="model.memory_events"),
)


def value_of(config: TriThreadConfig, name: str) -> Value:
    """Returns a field's value by its dotted name."""
    section, _, field = name.partition(".")
    return getattr(getattr(config, section), field)


def searched_in(base: TriThreadConfig) -> list[SearchedField]:
    """Returns the fields that apply to a base; the choices or range of each include its value."""
    return [_with_own(field, base) for field in FIELDS if _applies(field, base)]


def values_of(base: TriThreadConfig) -> Values:
    """Returns the base's own values of the searched fields."""
    return {field.name: value_of(base, field.name) for field in searched_in(base)}


def suggested(trial: Trial, base: TriThreadConfig) -> Values:
    """Returns the values of a trial."""
    found: Values = {}
    for field in searched_in(base):
        if field.choices:
            found[field.name] = trial.suggest_categorical(field.name, field.choices)
        else:
            found[field.name] = trial.suggest_float(field.name, field.low, field.high, log=True)
    return found


def with_values(base: TriThreadConfig, values: Mapping[str, Value]) -> TriThreadConfig:
    """Returns the base with other values; raises pydantic's ValidationError for invalid ones."""
    changed = base.model_dump(mode="json", by_alias=False)
    for name, value in values.items():
        section, _, field = name.partition(".")
        changed[section][field] = value
    return TriThreadConfig.model_validate(changed)


def _applies(field: SearchedField, base: TriThreadConfig) -> bool:
    if not field.needs:
        return True
    name, _, wanted = field.needs.partition("=")
    found = value_of(base, name)
    return str(found) == wanted if wanted else bool(found)


def _with_own(field: SearchedField, base: TriThreadConfig) -> SearchedField:
    own = value_of(base, field.name)
    if field.choices:
        return SearchedField(field.name, choices=tuple(sorted({*field.choices, own})))
    return SearchedField(field.name, low=min(field.low, own), high=max(field.high, own))
