"""Reads JSON that is not plain UTF-8: a byte order mark, UTF-16, and streams that nobody asked for.

A stream (`text/event-stream`) holds an answer that is paid for: its parts are joined. One that ends
without a reason to have finished was cut, and is no answer.
"""

from json import detect_encoding

from pydantic import JsonValue
from pydantic_core import from_json

_EVENT, _DONE = "data:", "[DONE]"


def unusual_json(content: bytes) -> JsonValue | None:
    """Returns the JSON data of a body that is no plain JSON; None where it holds none."""
    try:
        text = content.decode(detect_encoding(content)).lstrip("\ufeff").strip()
    except UnicodeDecodeError:
        return None
    if not text.startswith((_EVENT, "event:", ":")):
        return _parsed(text)
    lines = (line.strip() for line in text.splitlines())
    events = [line.removeprefix(_EVENT).strip() for line in lines if line.startswith(_EVENT)]
    return _joined([_parsed(event) for event in events if event and event != _DONE])


def _joined(events: list[JsonValue]) -> JsonValue | None:
    """One completion of all its parts; an error among them is the answer."""
    said: dict[str, list[str]] = {}
    finish: JsonValue = None
    usage: JsonValue = None
    for event in events:
        if not isinstance(event, dict):
            return None
        if event.get("error"):
            return event
        usage = event.get("usage") or usage
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            if not isinstance(choice, dict) or choice.get("index") not in (None, 0):
                continue
            finish = choice.get("finish_reason") or finish
            part = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
            for name, text in part.items() if isinstance(part, dict) else []:
                if isinstance(text, str):
                    said.setdefault(name, []).append(text)
    if finish is None:
        return None
    message: dict[str, JsonValue] = {name: "".join(parts) for name, parts in said.items()}
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def _parsed(text: str) -> JsonValue | None:
    try:
        return from_json(text)
    except ValueError:
        return None
