"""Servers as they are: what one wants otherwise is learnt once, and holds for the run."""

import logging

import pytest

from artifacts.ledger.answers import Role
from tests.imitated_providers import HEALTHY, NO_MAX_TOKENS, NO_TEMPERATURE, Case, unsupported
from tests.imitated_servers import (
    CHAT,
    EMBEDDINGS,
    WIDTH,
    Call,
    Imitation,
    Reply,
    at_most,
    error,
    imitated,
    no_system,
    refuses,
    vectors,
)
from tests.tasks.llm.client.asking_imitations import KEY_VARIABLE, ask, spec_at

pytestmark = pytest.mark.usefixtures("quick_retries")

QUESTIONS = [f"question {number}" for number in range(60)]
TEXTS = [f"text {number}" for number in range(640)]


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("role", Role)
def test_every_dialect_is_answered_with_next_to_no_request_too_many(
    name: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = HEALTHY[name]
    monkeypatch.setenv(KEY_VARIABLE, case.key)
    texts = QUESTIONS if role is Role.CHAT else TEXTS
    with imitated(case.imitation) as server:
        answers, failures = ask(texts, spec_at(server, role, case))
        learnt = sum(status != 200 for status in server.statuses)
        assert learnt <= 2
        assert not failures
        assert len(answers) == len(texts)
        assert server.paid_twice == 0
        ask(texts, spec_at(server, role, case))
        assert sum(status != 200 for status in server.statuses) == learnt  # Remembered.


FIELDS = {
    "max_tokens, by code": refuses("max_tokens", NO_MAX_TOKENS),
    "max_tokens, in words": refuses(
        "max_tokens", Reply(400, {"error": "Unrecognized request argument supplied: max_tokens"})
    ),
    "max_tokens, 422": refuses(
        "max_tokens",
        Reply(
            422,
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "max_tokens"],
                        "msg": "Extra inputs are not permitted",
                        "input": 80,
                    }
                ]
            },
        ),
    ),
    "temperature, by code": refuses("temperature", NO_TEMPERATURE),
    "temperature, in words": refuses(
        "temperature", error(400, "invalid temperature: only 0.6 is allowed for this model")
    ),
    "temperature, deprecated": refuses(
        "temperature", error(400, "`temperature` is deprecated for this model.")
    ),
    "system, vLLM": no_system(
        Reply(400, {"object": "error", "message": "System role not supported"})
    ),
    "system, a template's error with 500": no_system(
        error(500, "Conversation roles must alternate user/assistant/user/assistant/...")
    ),
    "system, Gemini": no_system(
        Reply(400, [{"error": {"code": 400, "message": "Developer instruction is not enabled"}}])
    ),
    "system, Mistral": no_system(error(400, "Only user and assistant roles are supported!")),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_refused_field_is_left_out_or_written_otherwise(name: str) -> None:
    with imitated(Imitation("x", (FIELDS[name],))) as server:
        answers, failures = ask(QUESTIONS, spec_at(server))
        assert (len(answers), failures) == (60, [])
        assert server.requests == 61
        last = server.calls[-1].body
    assert last["messages"][-1]["content"].startswith("question")
    if name.startswith("max_tokens"):
        assert last["max_completion_tokens"] == 80
        assert "max_tokens" not in last
    if name.startswith("system"):
        assert [said["role"] for said in last["messages"]] == ["user", "assistant", "user"]
        assert last["messages"][0]["content"] == "You describe a person.\n\nWho?"


def test_several_refused_fields_are_learnt_one_after_the_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rules = (
        refuses("max_tokens", NO_MAX_TOKENS),
        refuses("temperature", NO_TEMPERATURE),
        no_system(unsupported("messages[0].role", "no 'system'", "unsupported_value")),
    )
    with imitated(Imitation("x", rules)) as server, caplog.at_level(logging.INFO):
        answers, failures = ask(QUESTIONS, spec_at(server, concurrency=32))
        assert (len(answers), failures) == (60, [])
        assert server.requests == 63
    for field in ("max_tokens", "temperature", "system"):
        assert caplog.text.count(f"m does not take {field}") == 1


def test_a_prompt_whose_refusal_quotes_a_fields_name_teaches_nothing() -> None:
    def rule(call: Call) -> Reply | None:
        if "question 7" in call.texts[0]:
            return error(400, f"invalid prompt: {call.texts[0]}, temperature of the oven")
        return None

    with imitated(Imitation("x", (rule,))) as server:
        answers, failures = ask(QUESTIONS[:20], spec_at(server))
        assert [failure.key for failure in failures] == ["question 7"]
        assert len(answers) == 19
        assert all(
            call.body["temperature"] == 0.2 for call in server.calls if "7" not in call.texts[0]
        )


@pytest.mark.parametrize(
    "refusal",
    [
        error(400, "encoding_format 'base64' is not supported"),
        Reply(500, {"error": {"code": 500, "message": "base64 is not implemented"}}),
        Reply(
            422,
            {"detail": [{"loc": ["body", "encoding_format"], "msg": "Input should be 'float'"}]},
        ),
        Reply(400, b"unknown field `encoding_format`", content_type="text/plain"),
    ],
    ids=str,
)
def test_vectors_are_asked_for_as_numbers_where_base64_is_refused(refusal: Reply) -> None:
    with imitated(Imitation("x", (refuses("encoding_format", refusal, EMBEDDINGS),))) as server:
        answers, failures = ask(TEXTS, spec_at(server, Role.EMBEDDING))
        assert (len(answers), failures) == (640, [])
        assert server.requests == 11


BATCHES = {
    "DashScope": error(400, "batch size is invalid, it should not be larger than 10."),
    "TEI": Reply(
        413, {"error": "batch size 64 > maximum allowed batch size 10", "error_type": "Validation"}
    ),
    "422": Reply(422, {"error": "batch size 64 > maximum allowed batch size 10"}),
    "OpenAI": error(
        400,
        "Invalid 'input': array too long. Expected an array with maximum length 10, but got an "
        "array with length 64 instead.",
    ),
    "Cohere": Reply(400, {"message": "total number of texts must be at most 10 - received 64"}),
    "Zhipu": error(400, "input数组最大不得超过10条", code="1214"),
    "500": error(500, "too many inputs: the limit is 10", type="server_error"),
}


@pytest.mark.parametrize("name", BATCHES)
def test_the_number_of_texts_that_a_server_takes_is_learnt_from_its_words(name: str) -> None:
    with imitated(Imitation("x", (at_most(10, BATCHES[name]),))) as server:
        answers, failures = ask(TEXTS, spec_at(server, Role.EMBEDDING))
        assert (len(answers), failures) == (640, [])
        # 64 texts are 6 requests of 10 and one of 4; one batch of 64 was ready before. With status
        # 500, the eight batches in flight are sent as they are once more.
        assert server.requests <= 1 + 64 + 2 + 16 * (name == "500")
        assert server.paid_twice == 0


@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_and_from_what_it_takes_where_it_says_nothing(status: int) -> None:
    with imitated(Imitation("x", (at_most(10, Reply(status, {"error": "no"})),))) as server:
        answers, failures = ask(TEXTS, spec_at(server, Role.EMBEDDING, concurrency=2))
        assert (len(answers), failures) == (640, [])
        # 80 requests of 8 texts, the bisections before, and those that a paused server repeats.
        assert server.requests < 320
        assert server.paid_twice == 0
        assert max(len(call.texts) for call in server.calls[-20:]) <= 10


def test_a_server_that_answers_the_first_text_of_a_list_alone_is_asked_one_by_one() -> None:
    whole = vectors()

    def first_only(call: Call) -> dict[str, object]:
        reply = whole(call)
        return {**reply, "data": reply["data"][:1]}

    with imitated(Imitation("x", embeddings=first_only)) as server:
        answers, failures = ask(TEXTS[:128], spec_at(server, Role.EMBEDDING, concurrency=1))
        assert (len(answers), failures) == (128, [])
        assert server.requests <= 128 + 2


@pytest.mark.parametrize("whole", [1, 2, 5, 16])
@pytest.mark.parametrize("concurrency", [1, 32])
@pytest.mark.parametrize("drop", [0, -1, None])
def test_a_server_that_drops_a_vector_of_each_large_batch_is_asked_in_whole_ones(
    whole: int, concurrency: int, drop: int | None
) -> None:
    form = vectors()

    def short(call: Call) -> dict[str, object]:
        reply = form(call)
        if len(call.texts) <= whole:
            return reply
        data = reply["data"]
        kept = [*data, data[0]] if drop is None else [e for e in data if e is not data[drop]]
        return {**reply, "data": [{**entry, "index": n} for n, entry in enumerate(kept)]}

    with imitated(Imitation("x", embeddings=short)) as server:
        spec = spec_at(server, Role.EMBEDDING, concurrency=concurrency)
        answers, failures = ask(TEXTS[:300], spec)
        assert (len(answers), failures) == (300, [])
        assert server.requests <= 315  # 1.05 a text, where only single ones are whole.
        assert whole < 4 or server.requests <= 2 * 300 / whole + 30


def test_a_text_that_a_server_drops_from_every_batch_fails_alone_and_the_batches_stay() -> None:
    form = vectors()

    def without(call: Call) -> dict[str, object]:
        reply = form(call)
        data = [e for e, text in zip(reply["data"], call.texts, strict=True) if text != "text 70"]
        return {**reply, "data": [{**entry, "index": n} for n, entry in enumerate(data)]}

    with imitated(Imitation("x", embeddings=without)) as server:
        answers, failures = ask(TEXTS, spec_at(server, Role.EMBEDDING))
        assert [failure.key for failure in failures] == ["text 70"]
        assert len(answers) == 639
        assert server.requests <= 10 + 2 * 6 + 3 + 3  # The last: trials, as no other text is left.
        assert sum(len(call.texts) == 64 for call in server.calls) == 10


@pytest.mark.parametrize(
    "words",
    ["input: str type expected", "'input' must be a string", "input should be a valid string"],
)
def test_a_server_that_takes_no_list_is_sent_texts(words: str) -> None:
    def rule(call: Call) -> Reply | None:
        return None if isinstance(call.body.get("input"), str) else error(400, words)

    with imitated(Imitation("x", (rule,))) as server:
        answers, failures = ask(TEXTS[:64], spec_at(server, Role.EMBEDDING, concurrency=1))
        assert (len(answers), failures) == (64, [])
        assert server.requests <= 64 + 3


def test_dimensions_that_are_refused_are_left_out_where_the_width_is_right_anyway() -> None:
    rule = refuses("dimensions", error(400, "dimensions is not supported"), EMBEDDINGS)
    with imitated(Imitation("x", (rule,))) as server:
        spec = spec_at(server, Role.EMBEDDING).model_copy(
            update={"parameters": {"dimensions": WIDTH}, "fixed_fields": ("dimensions",)}
        )
        answers, failures = ask(TEXTS, spec)
        assert (len(answers), failures) == (640, [])
        assert server.requests == 11


def test_a_text_that_is_too_long_is_isolated_by_its_length_and_spoils_no_other_batch() -> None:
    def rule(call: Call) -> Reply | None:
        if any(len(text) > 500 for text in call.texts):
            return Reply(
                413, {"error": "Input validation error: `inputs` must have less than 512 tokens"}
            )
        return None

    texts = [
        f"text {number}" + (" long" * 200 if number % 100 == 5 else "") for number in range(640)
    ]
    with imitated(Imitation("x", (rule,))) as server:
        answers, failures = ask(texts, spec_at(server, Role.EMBEDDING, concurrency=1))
        assert len(failures) == 7
        assert all(f.reason.startswith("the prompt is too long") for f in failures)
        assert len(answers) == 633
        assert server.requests <= 10 + 2 + 2 * 7


def test_what_a_request_holds_besides_is_the_users_to_say() -> None:
    fields = {"temperature": None, "max_tokens": 500, "top_p": 0.9, "extra": {"a": 1}}
    with imitated(Imitation("x")) as server:
        ask(QUESTIONS[:2], spec_at(server, case=Case(Imitation("x"), chat_parameters=fields)))
        body = server.calls[-1].body
    assert set(body) == {"model", "messages", "max_tokens", "top_p", "extra"}
    assert body["max_tokens"] == 500


def test_one_limit_of_tokens_is_sent_also_where_the_user_names_the_newer_one() -> None:
    fields = {"max_completion_tokens": 2000}
    with imitated(Imitation("x")) as server:
        ask(QUESTIONS[:2], spec_at(server, case=Case(Imitation("x"), chat_parameters=fields)))
        body = server.calls[-1].body
    assert body["max_completion_tokens"] == 2000
    assert "max_tokens" not in body


def test_one_server_of_several_that_has_no_api_is_left_out_and_the_others_go_on() -> None:
    with (
        imitated(Imitation("good")) as good,
        imitated(Imitation("bad", (lambda call: Reply(404, {"detail": "Not Found"}),))) as bad,
    ):
        spec = spec_at(good).model_copy(update={"base_url": f"{bad.base_url},{good.base_url}"})
        answers, failures = ask(QUESTIONS, spec)
        assert (len(answers), failures) == (60, [])
        assert bad.requests == 1
        assert good.calls[0].route == CHAT
