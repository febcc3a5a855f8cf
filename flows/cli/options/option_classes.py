"""Dataclasses of options that several commands share, with their defaults.

A command takes the dataclasses; `with_fields` exposes their fields as single options.
"""

import inspect
from collections.abc import Callable
from dataclasses import Field, dataclass, fields, is_dataclass
from functools import wraps
from typing import Annotated, Self, get_args, get_origin, get_type_hints

from flows.cli.options import shared_options as opt
from prompts.profile_style import ProfileStyle
from tasks.dump.merge_mode import Mode


@dataclass(frozen=True, kw_only=True)
class DumpOptions:
    """Options of input files and of the steps before training."""

    interactions: opt.Interactions = None
    items: opt.Items = None
    column: opt.Column = None
    domain: opt.Domain = None
    where: opt.Where = None
    max_users: opt.MaxUsers = None
    user_core: opt.UserCore = None
    item_core: opt.ItemCore = None
    dataset: opt.Dataset = None
    raw: opt.Raw = None
    since: opt.Since = None
    until: opt.Until = None
    split: opt.Split = None
    validation_from: opt.ValidationFrom = None
    test_from: opt.TestFrom = None
    mode: opt.MergeMode = Mode.FULL
    profile_users: opt.ProfileUsers = None
    profile_style: opt.ProfileStyles = ProfileStyle.PAPER
    clusters: opt.Clusters = 10
    crossing_questions: opt.CrossingQuestions = False
    crossing_items: opt.CrossingItems = 0


@dataclass(frozen=True, kw_only=True)
class LlmOptions:
    """Options of LLM requests and their budget."""

    provider: opt.LlmProvider = None
    language: opt.PromptLanguage = None
    batch: opt.Batches = None
    max_usd: opt.MaxUsd = None
    max_tokens: opt.MaxTokens = None
    max_requests: opt.MaxRequests = None
    dry_run: opt.DryRun = False


class Only(tuple[str, ...]):
    """Annotation of a dataclass parameter: the fields that the command exposes, in this order. The
    others keep their defaults."""

    def __new__(cls, *names: str) -> Self:
        return super().__new__(cls, names)


def with_fields(command: Callable[..., None]) -> Callable[..., None]:
    """Returns a command with each dataclass parameter replaced by the dataclass's fields, or by
    those that `Only` names."""
    hints = get_type_hints(command, include_extras=True)
    flat: list[inspect.Parameter] = []
    groups: dict[str, tuple[Callable[..., object], tuple[str, ...]]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints[name]
        kind, *further = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if not is_dataclass(kind) or not isinstance(kind, type):
            flat.append(parameter.replace(annotation=hint, kind=parameter.KEYWORD_ONLY))
            continue
        own, exposed = get_type_hints(kind, include_extras=True), {f.name: f for f in fields(kind)}
        names = next((each for each in further if isinstance(each, Only)), tuple(exposed))
        groups[name] = kind, names
        flat += [_parameter(exposed[field], own[field]) for field in names]

    @wraps(command)
    def declared(**given: object) -> None:
        made = {
            name: kind(**{field: given.pop(field) for field in names})
            for name, (kind, names) in groups.items()
        }
        command(**made, **given)

    declared.__signature__ = inspect.Signature(flat)  # pyright: ignore[reportAttributeAccessIssue]
    declared.__annotations__ = {each.name: each.annotation for each in flat}
    return declared


def _parameter(field: Field[object], annotation: object) -> inspect.Parameter:
    only = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(field.name, only, default=field.default, annotation=annotation)
