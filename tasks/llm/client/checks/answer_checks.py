"""Validation of completions before they enter the ledger."""

import math
import re
from dataclasses import replace
from typing import NamedTuple

from pydantic import JsonValue

from artifacts.ledger.answers import Answer
from tasks.llm.client.checks.answer_shapes import completion_in
from tasks.llm.client.checks.reasoning import UnfinishedReasoningError, without_reasoning

TOO_LONG = "too_long"
"""``finish_reason`` that flags an answer over the word limit."""

MOST_TOKENS = 2**40
"""Maximum plausible token count."""

MOST_CHARACTERS = 1 << 20
"""Maximum length of an answer, reasoning included: no model writes as much for a profile."""

MOST_SHOWN = 40

MOST_DECLINED = 300
"""Maximum characters of a text that only declines."""

_DECLINES = re.compile(
    r"(?:i['’]?m|i am)(?: very| so| truly)? sorry\b.{0,40}?\b(?:can(?:no|['’])t|unable|not able)"
    r"|(?:sorry|apologies|unfortunately)\W{1,3}(?:but )?i(?:['’]m| am)? "
    r"(?:can(?:no|['’])t|unable|not able)"
    r"|i(?: can(?:no|['’])t| am unable to|['’]m unable to| am not able to| won['’]t) "
    r"(?:assist|help|comply|provide|fulfill|fulfil|create|generate|answer|do that)\b"
    r"|as an ai(?: language)? model\W.{0,40}?\bi (?:can(?:no|['’])t|am (?:unable|not able))"
    r"|(?:很抱歉|抱歉|对不起)[，,。\s]{0,2}(?:但)?我?(?:无法|不能|没有办法)|我(?:无法|不能)(?:协助|帮助|回答|提供|满足)",
    re.IGNORECASE,
)
_HAN_OR_KANA = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_CALLS = re.compile(r"<tool_call>|\[TOOL_CALLS\]|<\|python_tag\|>|<function=")
_TEXT_PARTS = frozenset({"text", "output_text", "message", None})


class BadAnswerError(ValueError):
    """The response is invalid.

    ``may_pass``: a retry may succeed. ``vectors``: wrong number of returned vectors. ``of_all``:
    the error concerns the whole batch, not one text. ``is_empty``: the response has no answer at
    all, as that of a proxy whose server is down.
    """

    def __init__(
        self,
        words: str,
        *,
        may_pass: bool = True,
        vectors: int | None = None,
        of_all: bool = False,
        is_empty: bool = False,
    ) -> None:
        super().__init__(words)
        self.may_pass = may_pass
        self.vectors = vectors
        self.of_all = of_all
        self.is_empty = is_empty


class Usage(NamedTuple):
    """Token counts of a server; 0 without counts."""

    prompt_tokens: int
    completion_tokens: int


def usage_of(body: JsonValue) -> Usage:
    """Returns the token counts of a response, for all number formats."""
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        return Usage(0, 0)
    read = usage.get("prompt_tokens", usage.get("input_tokens"))
    written = usage.get("completion_tokens", usage.get("output_tokens"))
    return Usage(_count(read), _count(written))


def checked_text(key: str, body: JsonValue) -> Answer:
    """Returns the answer in the JSON body of a completion.

    Raises:
        BadAnswerError: no text, none after the reasoning, one without a word, or a tool call.
    """
    completion = completion_in(body)
    if completion is None:
        raise BadAnswerError("the answer has no choices", is_empty=True)
    message, content, finish = completion
    if refusal := message.get("refusal"):
        raise BadAnswerError(f"the model declines: {refusal}", may_pass=False)
    said = _joined(content)
    if len(said) > MOST_CHARACTERS:
        raise BadAnswerError(f"an answer of {len(said):,} characters")
    if _CALLS.match(said.lstrip()):
        raise BadAnswerError("the model calls a tool in place of an answer")
    try:
        text = without_reasoning(said)
    except UnfinishedReasoningError:
        raise _only_reasoning(finish) from None
    if not text:
        parts = content if isinstance(content, list) else None
        thought = message.get("reasoning_content") or message.get("reasoning") or parts
        if thought or said.strip() or (finish == "length" and usage_of(body).completion_tokens > 0):
            raise _only_reasoning(finish)
        is_filtered = finish == "content_filter"
        raise BadAnswerError(
            f"the answer is empty (finish_reason {finish})",
            may_pass=not is_filtered,
            is_empty=not is_filtered,
        )
    if not any(sign.isalnum() for sign in text):  # A model of overflowing numbers says "!!!!".
        raise BadAnswerError(f"the answer holds no word: {text[:MOST_SHOWN]!r}")
    if declines(text):
        raise BadAnswerError(f"the model declines: {text[:MOST_DECLINED]}", may_pass=False)
    tokens = usage_of(body)
    finish = "length" if finish == "content_filter" else finish  # A filter has cut the text.
    return Answer(key, text, None, finish, tokens.prompt_tokens, tokens.completion_tokens)


def declines(text: str) -> bool:
    """Returns whether a short text begins by declining to answer."""
    return len(text) <= MOST_DECLINED and _DECLINES.match(text.lstrip("\"'*“ ")) is not None


def words_in(text: str) -> int:
    """Returns the number of words; in Chinese and Japanese each character counts."""
    return len(_HAN_OR_KANA.sub(" x ", text).split())


def is_within(answer: Answer, max_words: int | None) -> bool:
    """Returns whether an answer is within a word limit. Truncated answers have their own flag."""
    cut = answer.finish_reason == "length"
    return cut or max_words is None or words_in(answer.text or "") <= max_words


def marked(answer: Answer, max_words: int | None) -> Answer:
    """Returns an answer flagged if it exceeds the word limit."""
    if is_within(answer, max_words):
        return answer
    return replace(answer, finish_reason=TOO_LONG)


def _only_reasoning(finish: str) -> BadAnswerError:
    return BadAnswerError(
        f"the answer contains only reasoning (finish_reason {finish}); allow more tokens by "
        "LLM4CDSR_CHAT_PARAMETERS='{\"max_tokens\": 2000}', or disable reasoning "
        "(docs/providers.md)",
        may_pass=False,
    )


def _joined(content: JsonValue) -> str:
    """Returns the text of an answer; joins its parts without reasoning."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        if content.get("type") not in _TEXT_PARTS or content.get("thought") is True:
            return ""
        return _joined(content.get("text") or content.get("content"))
    if isinstance(content, list):
        return "".join(_joined(part) for part in content)
    return ""


def _count(number: JsonValue) -> int:
    if isinstance(number, str):
        try:
            number = float(number)
        except ValueError:
            return 0
    if isinstance(number, bool) or not isinstance(number, int | float):
        return 0
    if not 0 <= number < MOST_TOKENS:  # Not so are NaN and numbers that no float holds.
        return 0
    return math.ceil(number)
