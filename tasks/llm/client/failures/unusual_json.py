"""Parsing of unusual JSON: byte-order marks, UTF-16, halves of characters, unrequested streams.

A stream (`text/event-stream`) contains a paid answer, whose parts are joined. A stream without a
finish reason is truncated and invalid.
"""

import json

from pydantic import JsonValue
from pydantic_core import from_json

_EVENT, _DONE = "data:", "[DONE]"
_HALVES = "\\ud"


def unusual_json(content: bytes) -> JsonValue | None:
    """Returns the JSON data of an unusual body, None without any."""
    try:
        text = content.decode(json.detect_encoding(content)).lstrip("\ufeff").strip()
    except UnicodeDecodeError:
        return None
    if not text.startswith((_EVENT, "event:", ":")):
        return _parsed(text)
    lines = (line.strip() for line in text.splitlines())
    events = [line.removeprefix(_EVENT).strip() for line in lines if line.startswith(_EVENT)]
    return _joined([_parsed(event) for event in events if event and event != _DONE])


def _joined(events: list[JsonValue]) -> JsonValue | None:
    """Returns one completion of all parts, or the error among them."""
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
    """Returns the data, without unpaired surrogates: a token limit may cut an emoji in halves."""
    try:
        return from_json(text)
    except ValueError:
        if _HALVES not in text.lower():
            return None
    try:
        whole = json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    return from_json(whole.encode(errors="ignore"))
