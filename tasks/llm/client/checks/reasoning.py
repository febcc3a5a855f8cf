"""Removes the reasoning that models leave in the text of their answers.

Known forms: tags such as ``<think>…</think>`` (also ``[THINK]``, ``◁think▷``, ``<|…|>``), also
without the opening tag, which some chat templates consume; the channels of harmony (gpt-oss), with
their marks or, if a server strips these, only their names; Granite's sentences. Marks of a chat
template are removed, with the turns that a model without a stop token continues with.

The time is linear in the length of every text: it passes on the event loop of all requests.
"""

import re


class UnfinishedReasoningError(ValueError):
    """The answer ends within its reasoning, before the requested text."""


def without_reasoning(text: str) -> str:
    """Returns the text that follows the reasoning, without marks; as it is where there is none.

    Raises:
        UnfinishedReasoningError: reasoning began and did not end.
    """
    if _ANY_MARK.search(text) is None:
        return text.strip()
    text = _outside_details(text)
    if _CHANNEL in text:
        text = _final_channel(text)
    elif (found := _BARE_CHANNELS.match(text)) or (found := _GRANITE.match(text)):
        text = _found_after(found["final"])
    turns = _END_OF_TURN.split(_ROLE.sub("", _outside_tags(text)))
    said = (_SPECIAL.sub("", turn).strip() for turn in turns)
    return next((turn for turn in said if turn), "")


_NAMES = (
    r"think|thinking|thoughts?|reasoning|reason|reflection|analysis|scratch_?pad|inner_monologue"
)
_OPENING = (
    rf"<\s*(?:\w+:)?(?:{_NAMES})(?:\s[^<>]*)?(?<!/)>|\[(?:think|thinking|reasoning)\]|◁think▷|"
    r"<\|(?:begin_of_thought|begin_of_reasoning|start_thinking|think|thinking)\|>"
)
_CLOSING = (
    rf"<\s*/\s*(?:\w+:)?(?:{_NAMES})\s*>|\[/(?:think|thinking|reasoning)\]|◁/think▷|"
    r"<\|(?:end_of_thought|end_of_reasoning|end_thinking|/think|/thinking)\|>"
)
_DETAILS = re.compile(r"<details\s(?P<fields>[^<>]*)>", re.IGNORECASE)
_REASONING = re.compile(r"\breasoning\b", re.IGNORECASE)
_END_OF_DETAILS = re.compile(r"</details>", re.IGNORECASE)
_CHANNEL, _SAYS = "<|channel|>", "<|message|>"
_TAG = re.compile(rf"(?P<opens>{_OPENING})|{_CLOSING}", re.IGNORECASE)
_NAMED_CHANNEL = re.compile(r"<\|channel\|>\s*(?P<name>\w+)")
_END_OF_MESSAGE = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_BARE_CHANNELS = re.compile(
    r"\s*analysis(?=[A-Z\"'])(?:(?!assistant\s*final).)*(?:assistant\s*final(?P<final>.*))?\Z",
    re.DOTALL,
)
_GRANITE = re.compile(
    r"\s*Here(?:'s| is) my thought process:(?:(?!Here(?:'s| is) my response:).)*"
    r"(?:Here(?:'s| is) my response:(?P<final>.*))?\Z",
    re.DOTALL | re.IGNORECASE,
)
_TEMPLATE = r"<\|[a-z_]+\|>|</?s>|<[be]os>|<(?:start|end)_of_turn>|<｜[^<>]{1,40}｜>"
_END_OF_TURN = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|eot|end|endoftext|end_of_text|end_of_turn_token|return)\|>|</s>|"
    r"<eos>|<end_of_turn>|<｜end▁of▁sentence｜>",
    re.IGNORECASE,
)
_ROLE = re.compile(
    r"\A\s*(?:<\|im_start\|>|<start_of_turn>|<\|start_header_id\|>)\s*\w+\s*?"
    r"(?:<\|end_header_id\|>|\n)",
    re.IGNORECASE,
)
"""The beginning of the model's own turn."""

_SPECIAL = re.compile(rf"{_TEMPLATE}|</?(?:answer|final)>|<(?:think|thinking)\s*/>", re.IGNORECASE)
_ANY_MARK = re.compile(
    rf"{_OPENING}|{_CLOSING}|{_TEMPLATE}|</?(?:answer|final)>|<think|<details\s|\A\s*analysis[A-Z\"']"
    r"|\A\s*Here(?:'s| is) my thought process:",
    re.IGNORECASE,
)


def _outside_tags(text: str) -> str:
    """Returns the text outside tags. Before a closing tag without an opening one, all text is
    reasoning."""
    visible: list[str] = []
    start, is_inside = 0, False
    for tag in _TAG.finditer(text):
        if tag["opens"]:
            if not is_inside:
                visible.append(text[start : tag.start()])
            is_inside = True
            continue
        if not is_inside:
            visible.clear()
        start, is_inside = tag.end(), False
    if is_inside:
        raise UnfinishedReasoningError
    return "".join(visible) + text[start:]


def _outside_details(text: str) -> str:
    visible: list[str] = []
    start = 0
    for tag in _DETAILS.finditer(text):
        if tag.start() < start or _REASONING.search(tag["fields"]) is None:
            continue
        end = _END_OF_DETAILS.search(text, tag.end())
        if end is None:
            raise UnfinishedReasoningError
        visible.append(text[start : tag.start()])
        start = end.end()
    return "".join(visible) + text[start:]


def _final_channel(text: str) -> str:
    final, end = None, 0
    for channel in _NAMED_CHANNEL.finditer(text):
        if channel.start() < end:
            continue
        begin = text.find(_SAYS, channel.end())
        if begin < 0:
            break
        begin += len(_SAYS)
        found = _END_OF_MESSAGE.search(text, begin)
        end = len(text) if found is None else found.start()
        if channel["name"] == "final":
            final = text[begin:end]
    return _found_after(final)


def _found_after(final: str | None) -> str:
    if final is None:
        raise UnfinishedReasoningError
    return final
