"""Rendering of a language's templates, with versions by content.

Against prompt injection, every inserted text is one line without control characters and of limited
length.
"""

import hashlib
import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel

from prompts.language import Language
from prompts.profile_style import ProfileStyle

MAX_TITLES = 15
"""Maximum latest titles of a cluster in the analysis prompt (METHOD 3)."""


class ItemText(BaseModel, extra="forbid", frozen=True):
    """Metadata of an item; empty or None is unknown."""

    title: str | None = None
    brand: str | None = None
    price: float | None = None
    categories: tuple[str, ...] = ()
    description: str | None = None

    @property
    def is_empty(self) -> bool:
        """Returns whether an item has no text; a price alone is not sufficient."""
        texts = (self.title, self.brand, *self.categories, self.description)
        return not any(one_line(text, 1) for text in texts if text)


class Message(BaseModel, extra="forbid", frozen=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatPrompt(BaseModel, extra="forbid", frozen=True):
    """A chat prompt: instructions and examples first, data last."""

    messages: tuple[Message, ...]


def item_prompt(item: ItemText, language: Language) -> str:
    """Returns the text of an item; empty without metadata."""
    return "" if item.is_empty else _render(language, "item", item.model_dump()).strip()


def analyze_prompt(
    titles: Sequence[str], language: Language, style: ProfileStyle = ProfileStyle.PAPER
) -> ChatPrompt:
    """Returns the analysis prompt of one cluster's titles, limited to the last `MAX_TITLES`."""
    return _chat_prompt(language, style.templates[0], {"titles": list(titles)[-MAX_TITLES:]})


def summarize_prompt(interests: Sequence[str], language: Language) -> ChatPrompt:
    """Returns the summary prompt of a user's partial interests (METHOD 3)."""
    return _chat_prompt(language, "summarize", {"interests": list(interests)})


def cross_prompt(
    titles: Sequence[str], source: str, domain: str, sold: Sequence[str], language: Language
) -> ChatPrompt:
    """Returns the prompt about preferences in `domain` of users of `titles` in the domain `source`.
    `sold` are example titles of the target domain."""
    values = {"titles": list(titles), "source": source, "domain": domain, "sold": list(sold)}
    return _chat_prompt(language, "cross", values)


def name_cluster_prompt(titles: Sequence[str], language: Language) -> ChatPrompt:
    """Returns the naming prompt of one cluster, with its most central titles."""
    return _chat_prompt(language, "name_cluster", {"titles": list(titles)})


@cache
def prompt_version(language: Language, name: str) -> str:
    """Returns the content hash of a template."""
    content = (_folder(language) / f"{name}.j2").read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def one_line(text: str, max_characters: int) -> str:
    """Returns text as one line: entities decoded, tags and control characters removed, truncated.

    Invisible characters (soft hyphens, joiners, direction marks) are removed. A truncated text ends
    in an ellipsis, within ``max_characters``.
    """
    plain = _TAG.sub(" ", html.unescape(text))
    # Nearly every text is printable: exactly the categories that `_visible` replaces are not.
    visible = plain if plain.isprintable() else "".join(_visible(c) for c in plain)
    line = " ".join(visible.split())
    return line if len(line) <= max_characters else line[: max_characters - 1].rstrip() + "…"


_TURN = re.compile(r"^### (system|user|assistant)$", re.MULTILINE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    return " " if category[0] in "CZ" else character


def _chat_prompt(
    language: Language, name: str, values: Mapping[str, str | list[str]]
) -> ChatPrompt:
    """Parses a template: a line ``### role`` begins each turn. Inserted text follows a dash on its
    line, so it cannot begin a turn."""
    turns = _TURN.split(_render(language, name, values))[1:]
    pairs = zip(turns[::2], turns[1::2], strict=True)
    return ChatPrompt(
        messages=tuple(
            Message.model_validate({"role": role, "content": text.strip()}) for role, text in pairs
        )
    )


def _render(language: Language, name: str, values: Mapping[str, object]) -> str:
    return _environment(language).get_template(f"{name}.j2").render(values)


@cache
def _environment(language: Language) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_folder(language)),
        undefined=StrictUndefined,
        autoescape=False,  # Prompts are plain text; `one_line` sanitises data.
        keep_trailing_newline=True,
    )
    environment.filters["line"] = one_line
    return environment


def _folder(language: Language) -> Path:
    return Path(__file__).parent / language
