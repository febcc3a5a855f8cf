"""Texts that are not what was asked for, told by their form alone."""

import pytest
from pydantic import JsonValue

from tasks.llm.client.checks.answer_checks import (
    MOST_CHARACTERS,
    BadAnswerError,
    Usage,
    checked_text,
    usage_of,
)

TEXT = "The person likes oats."
THOUGHT: JsonValue = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}


def reply(message: JsonValue, finish: JsonValue = "stop", usage: JsonValue = None) -> JsonValue:
    choice: JsonValue = {"index": 0, "message": message, "finish_reason": finish}
    return {"choices": [choice], "usage": usage}


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        f"\n {TEXT} \n",
        [{"type": "text", "text": TEXT}],
        [{"type": "text", "text": "The person "}, {"type": "text", "text": "likes oats."}],
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            {"type": "text", "text": TEXT},
        ],
        [{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": TEXT}],
        ["The person ", "likes oats."],
        {"type": "text", "text": TEXT},
        [{"text": TEXT}],
        [{"type": "text", "text": f"<think>hm</think>{TEXT}"}],
        [{"type": "text", "text": TEXT}, {"type": "reference", "reference_ids": [1]}],
    ],
    ids=str,
)
def test_the_text_of_an_answer_is_found_in_whichever_form(content: JsonValue) -> None:
    answer = checked_text("k", reply({"role": "assistant", "content": content}))
    assert (answer.text, answer.finish_reason) == (TEXT, "stop")


@pytest.mark.parametrize(
    ("message", "finish"),
    [
        ({"content": "<think>\nOkay, so"}, "length"),
        ({"content": "<think>hm</think>"}, "stop"),
        ({"content": None, "reasoning_content": "Okay, so"}, "length"),
        ({"content": "", "reasoning": "Okay, so"}, "stop"),
        (
            {
                "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}],
                "reasoning": "x",
            },
            "length",
        ),
    ],
    ids=str,
)
def test_an_answer_of_nothing_but_reasoning_fails_and_says_what_to_set(
    message: JsonValue, finish: str
) -> None:
    with pytest.raises(BadAnswerError, match="LLM4CDSR_CHAT_PARAMETERS") as raised:
        checked_text("k", reply(message, finish))
    assert not raised.value.may_pass


def test_a_limit_that_went_into_hidden_reasoning_is_told_so() -> None:
    spent: JsonValue = {"prompt_tokens": 9, "completion_tokens": 80}
    with pytest.raises(BadAnswerError, match="contains only reasoning"):
        checked_text("k", reply({"content": ""}, "length", spent))


@pytest.mark.parametrize(
    ("message", "finish", "may_pass"),
    [
        ({"content": ""}, "stop", True),
        ({"content": None}, None, True),
        ({"content": 7}, "stop", True),
        (None, "stop", True),
        ({"content": "!!!!!!!!!!!!"}, "length", True),
        ({"content": "\u200b\n\u200b"}, "stop", True),
        ({"content": '<tool_call>\n{"name": "search"}\n</tool_call>'}, "stop", True),
        ({"content": "", "refusal": "I cannot"}, "stop", False),
        ({"content": ""}, "content_filter", False),
    ],
    ids=str,
)
def test_an_answer_without_a_text_is_refused(
    message: JsonValue, finish: JsonValue, may_pass: bool
) -> None:
    with pytest.raises(BadAnswerError) as raised:
        checked_text("k", reply(message, finish))
    assert raised.value.may_pass == may_pass


@pytest.mark.parametrize(
    "said",
    [
        "I'm sorry, but I can't assist with that request.",
        "I’m very sorry, but I am unable to help.",
        "Sorry, I cannot describe this person.",
        "I cannot provide a profile of a real person.",
        "As an AI language model, I cannot know what a person likes.",
        "很抱歉，我无法回答这个问题。",
        "对不起,我不能提供帮助。",
        '"I\'m unable to assist with that."',
    ],
)
def test_a_text_that_declines_is_no_answer(said: str) -> None:
    with pytest.raises(BadAnswerError, match="the model declines") as raised:
        checked_text("k", reply({"content": said}))
    assert not raised.value.may_pass


@pytest.mark.parametrize(
    "said",
    [
        "Sorry for the Dead is a book that this person cannot put down.",
        "I cannot recommend oats enough, says this person, who buys pans.",
        "The person is sorry to miss crime novels and can't stand romance.",
        "Unfortunately few titles are known; I can tell a taste for oats.",
        "抱歉的故事和悬疑小说。",
        "I'm sorry, but I can't say more than this: " + "pans, " * 60,
    ],
)
def test_a_text_that_only_holds_such_words_is_an_answer(said: str) -> None:
    assert checked_text("k", reply({"content": said})).text == said.strip()


def test_a_text_that_a_filter_has_cut_is_marked_as_cut() -> None:
    assert checked_text("k", reply({"content": TEXT}, "content_filter")).finish_reason == "length"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 9}, (10, 9)),
        ({"prompt_tokens": 10.5, "completion_tokens": 9.0}, (11, 9)),
        ({"prompt_tokens": "10", "completion_tokens": "9.0"}, (10, 9)),
        ({"prompt_tokens": None}, (0, 0)),
        ({"input_tokens": 10, "output_tokens": 9}, (10, 9)),
        ({"prompt_tokens": 10, "completion_tokens_details": None}, (10, 0)),
        ({"prompt_tokens": True, "completion_tokens": [1]}, (0, 0)),
        ({"prompt_tokens": -4, "completion_tokens": float("nan")}, (0, 0)),
        ({"prompt_tokens": float("inf"), "completion_tokens": 10**30}, (0, 0)),
        ({"prompt_tokens": "many"}, (0, 0)),
        ({"prompt_tokens": 10**400, "completion_tokens": -(10**400)}, (0, 0)),
        ({}, (0, 0)),
        (None, (0, 0)),
        ([], (0, 0)),
    ],
    ids=str,
)
def test_tokens_are_counted_in_any_form_of_a_number_and_none_costs_an_answer(
    usage: JsonValue, expected: tuple[int, int]
) -> None:
    body = reply({"content": TEXT}, usage=usage)
    assert usage_of(body) == Usage(*expected)
    answer = checked_text("k", body)
    assert (answer.prompt_tokens, answer.completion_tokens) == expected


@pytest.mark.parametrize("body", [None, [], "x", {}, {"choices": []}, {"choices": [None]}], ids=str)
def test_what_is_no_completion_is_refused(body: JsonValue) -> None:
    with pytest.raises(BadAnswerError):
        checked_text("k", body)


SHAPES = {
    "completions": {"choices": [{"index": 0, "text": TEXT, "finish_reason": "stop"}]},
    "a chunk": {"choices": [{"delta": {"content": TEXT}, "finish_reason": "stop"}]},
    "Ollama, chat": {"message": {"role": "assistant", "content": TEXT}, "done_reason": "stop"},
    "Ollama, generate": {"response": TEXT, "done": True, "done_reason": "stop"},
    "Anthropic": {
        "type": "message",
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": TEXT}],
        "stop_reason": "stop",
    },
    "Gemini": {
        "candidates": [
            {
                "content": {"parts": [{"text": "hm", "thought": True}, {"text": TEXT}]},
                "finishReason": "stop",
            }
        ]
    },
    "Responses": {
        "status": "stop",
        "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "content": [{"type": "output_text", "text": TEXT}]},
        ],
    },
    "TGI": [{"generated_text": TEXT, "finish_reason": "stop"}],
    "DashScope": {"output": {"text": TEXT, "finish_reason": "stop"}, "request_id": "1"},
    "wrapped": {"data": {"choices": [{"message": {"content": TEXT}, "finish_reason": "stop"}]}},
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_completion_is_found_in_the_usual_shapes(name: str) -> None:
    answer = checked_text("k", SHAPES[name])
    assert (answer.text, answer.finish_reason) == (TEXT, "stop")


@pytest.mark.parametrize(
    "body",
    [
        {"response": "queued"},
        {"output": "the model is loading"},
        {"text": "hello"},
        {"status": "ok", "content": "service"},
        {"result": "done"},
        {"choices": [{"index": 0, "finish_reason": "stop"}]},
        {"choices": [{"text": "", "finish_reason": "length"}]},
    ],
    ids=str,
)
def test_a_text_that_may_be_anything_is_no_completion(body: JsonValue) -> None:
    with pytest.raises(BadAnswerError):
        checked_text("k", body)


def test_a_cut_answer_is_marked_as_cut_in_whichever_word() -> None:
    for name, word in (("stop_reason", "max_tokens"), ("finishReason", "MAX_TOKENS")):
        choice: JsonValue = {"message": {"content": TEXT}, name: word}
        assert checked_text("k", {"choices": [choice]}).finish_reason == "length"


def test_of_several_choices_the_first_by_its_index_is_the_answer() -> None:
    choices: JsonValue = [
        {"index": number, "message": {"content": text}, "finish_reason": "stop"}
        for number, text in ((1, "another"), (0, TEXT))
    ]
    assert checked_text("k", {"choices": choices}).text == TEXT


@pytest.mark.parametrize("finish", ["\x1b[2J", "stop\nstop", "s" * 5000])
def test_a_reason_to_finish_that_is_no_name_is_unknown(finish: str) -> None:
    assert checked_text("k", reply({"content": "oats"}, finish)).finish_reason == "unknown"


def test_an_answer_longer_than_any_model_writes_is_refused() -> None:
    with pytest.raises(BadAnswerError, match="1,048,577 characters"):
        checked_text("k", reply({"content": "a" * (MOST_CHARACTERS + 1)}))
