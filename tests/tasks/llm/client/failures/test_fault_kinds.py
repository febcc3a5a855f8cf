"""Whose fault an answer without a result is: told by status, type and the server's words."""

import json
import time
from email.utils import formatdate

import pytest

from tasks.llm.client.failures.fault_kinds import (
    REASON_CHARACTERS,
    SYSTEM,
    Fault,
    FaultKind,
    HttpReply,
    Sent,
    read_reply,
    seconds_of,
)

CHAT = Sent(("model", "messages", "max_tokens", "temperature"), has_system=True)
TEXTS = Sent(("model", "input", "encoding_format"), texts=64)
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


def kind_of(status: int, body: object, sent: Sent = CHAT, content_type: str = "") -> FaultKind:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = read_reply(HttpReply(status, content, content_type), sent)
    assert isinstance(found, Fault), found
    assert found.words
    return found.kind


def said(message: object, **fields: object) -> dict[str, object]:
    return {"error": {"message": message, **fields}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, said("bad"), FaultKind.PROMPT),
        (400, said("content management policy", code="content_filter"), FaultKind.PROMPT),
        (403, {"error": {"code": 403, "message": "flagged", "metadata": {}}}, FaultKind.PROMPT),
        (400, said("This model's maximum context length is 8192 tokens"), FaultKind.TOO_LONG),
        (400, said("the request exceeds the available context size"), FaultKind.TOO_LONG),
        (
            400,
            {"message": "please reduce the length of the prompt"},
            FaultKind.TOO_LONG,
        ),
        (413, {"error": "`inputs` must have less than 512 tokens"}, FaultKind.TOO_LONG),
        (400, said("Input tokens exceed the configured limit of 8192"), FaultKind.TOO_LONG),
        (400, said("The prompt is too big for this model"), FaultKind.TOO_LONG),
        (400, said("prompt tokens (9000) > n_ctx (8192)"), FaultKind.TOO_LONG),
        (400, said("Prompt exceeds max length"), FaultKind.TOO_LONG),
        (400, said("Too many input tokens."), FaultKind.TOO_LONG),
        (
            500,
            said("too large to process. increase the physical batch size"),
            FaultKind.TOO_LONG,
        ),
        (429, said("Request too large for gpt-4o on tokens per min"), FaultKind.TOO_LONG),
        (400, said("Range of input length should be [1, 8192]"), FaultKind.TOO_LONG),
        (402, said("Insufficient Balance"), FaultKind.CREDIT),
        (402, b"", FaultKind.CREDIT),
        (429, said("quota", type="insufficient_quota"), FaultKind.CREDIT),
        (400, said("Your credit balance is too low to access the API"), FaultKind.CREDIT),
        (
            403,
            {"error": {"message": "额度", "code": "insufficient_user_quota"}},
            FaultKind.CREDIT,
        ),
        (400, {"code": "Arrearage", "message": "Access denied"}, FaultKind.CREDIT),
        (429, said("exceeded", type="exceeded_current_quota_error"), FaultKind.CREDIT),
        (429, said("You exceeded your current quota", status="RESOURCE_EXHAUSTED"), FaultKind.BUSY),
        (429, b"", FaultKind.BUSY),
        (429, PAGE, FaultKind.BUSY),
        (200, said("rate limited upstream", code=429), FaultKind.BUSY),
        (200, {"choices": [{"error": {"code": 429, "message": "slow down"}}]}, FaultKind.BUSY),
        (200, [{"error": {"status": "RESOURCE_EXHAUSTED", "message": "x"}}], FaultKind.BUSY),
        (200, {"error": "Too many requests, try again"}, FaultKind.BUSY),
        (500, said("boom"), FaultKind.SERVER),
        (500, said("boom", type="invalid_request_error"), FaultKind.SERVER),
        (500, PAGE, FaultKind.SERVER),
        (502, b"upstream connect error", FaultKind.SERVER),
        (529, said("Overloaded", type="overloaded_error"), FaultKind.SERVER),
        (408, b"", FaultKind.SERVER),
        (409, said("conflict"), FaultKind.SERVER),
        (200, said("Provider returned error", code=502), FaultKind.SERVER),
        (200, said("x", type="server_error"), FaultKind.SERVER),
        (500, said("Incorrect API key", code=401), FaultKind.KEY),
        (401, said("no"), FaultKind.KEY),
        (401, b"", FaultKind.KEY),
        (
            400,
            [{"error": {"message": "API key not valid. Please pass one."}}],
            FaultKind.KEY,
        ),
        (403, {"message": "ExpiredTokenException: The token in it is expired"}, FaultKind.KEY),
        (403, said("Country, region, or territory not supported"), FaultKind.FORBIDDEN),
        (404, said("The model `x` does not exist", code="model_not_found"), FaultKind.MODEL),
        (404, said("The model 'x' does not exist for this route"), FaultKind.MODEL),
        (404, {"error": "model 'x' not found, try pulling it first"}, FaultKind.MODEL),
        (400, said("Model Not Exist"), FaultKind.MODEL),
        (400, said("x is not a valid model ID"), FaultKind.MODEL),
        (
            400,
            {"message": "Invalid model: x", "type": "invalid_model"},
            FaultKind.MODEL,
        ),
        (404, {"detail": "Not Found"}, FaultKind.NO_API),
        (404, {"error": {"code": "404", "message": "Resource not found"}}, FaultKind.NO_API),
        (404, PAGE, FaultKind.NO_API),
        (200, PAGE, FaultKind.NO_API),
        (401, PAGE, FaultKind.NO_API),
        (405, {"detail": "Method Not Allowed"}, FaultKind.NO_API),
        (
            501,
            said("This server does not support embeddings"),
            FaultKind.NO_API,
        ),
        (501, said("this model does not support embeddings"), FaultKind.MODEL),
        (400, said("No models loaded. Please load a model"), FaultKind.MODEL),
        (
            400,
            said("The embeddings operation does not work with the specified model, gpt-4."),
            FaultKind.MODEL,
        ),
        (404, {"error": "Unexpected endpoint or method. (POST /v1/chat)"}, FaultKind.NO_API),
        (400, said("Budget has been exceeded!", type="budget_exceeded"), FaultKind.CREDIT),
        (412, said("Account suspended"), FaultKind.CREDIT),
        (422, said("`inputs` tokens must be <= 512. Given: 600"), FaultKind.TOO_LONG),
        (424, {"error": "Inference error", "error_type": "backend"}, FaultKind.SERVER),
        (498, said("Flex tier capacity exceeded"), FaultKind.SERVER),
        (
            200,
            {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "no funds"}},
            FaultKind.BAD_ANSWER,
        ),
        (
            200,
            {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
            FaultKind.CREDIT,
        ),
        (
            200,
            {"base_resp": {"status_code": 1002, "status_msg": "rate limit (RPM)"}},
            FaultKind.BUSY,
        ),
        (200, {"error_code": 18, "error_msg": "Open api qps rate limit reached"}, FaultKind.BUSY),
        (200, b"", FaultKind.BAD_ANSWER),
        (200, b"OK", FaultKind.BAD_ANSWER),
        (200, b'{"choices": [', FaultKind.BAD_ANSWER),
        (200, b'data: {"choices": []}\n\n', FaultKind.BAD_ANSWER),
        (200, {"error": "upstream failed"}, FaultKind.BAD_ANSWER),
        (200, {"detail": "something"}, FaultKind.BAD_ANSWER),
    ],
)
def test_the_kind_of_a_fault(status: int, body: object, kind: FaultKind) -> None:
    assert kind_of(status, body) is kind


@pytest.mark.parametrize(
    ("status", "body", "field"),
    [
        (400, said("no", param="max_tokens", code="unsupported_parameter"), "max_tokens"),
        (400, said("'temperature' does not support 0.2"), "temperature"),
        (
            422,
            {"detail": [{"loc": ["body", "temperature"], "msg": "not permitted"}]},
            "temperature",
        ),
        (400, said("no", param="messages[0].role", code="unsupported_value"), SYSTEM),
        (400, said("Unsupported role: system"), SYSTEM),
        (500, said("System role not supported"), SYSTEM),
    ],
)
def test_the_field_that_a_server_refuses(status: int, body: object, field: str) -> None:
    found = read_reply(HttpReply(status, json.dumps(body).encode()), CHAT)
    assert isinstance(found, Fault)
    assert (found.kind, found.field) == (FaultKind.FIELD, field)


def test_a_list_of_texts_where_one_text_is_wanted_is_a_refused_field() -> None:
    body = {"detail": [{"loc": ["body", "input"], "msg": "Input should be a valid string"}]}
    found = read_reply(HttpReply(422, json.dumps(body).encode()), TEXTS)
    assert isinstance(found, Fault)
    assert (found.kind, found.field) == (FaultKind.FIELD, "input")


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("batch size 64 > maximum allowed batch size 32", 32),
        ("batch size is invalid, it should not be larger than 10.: input.contents", 10),
        ("at most 7 requests can be in one batch", 7),
        ("The batch is too large", None),
        ("The number of inputs exceeds the limit of 32", 32),
        ("Requested 310000 tokens, max 300000 tokens per request", None),
    ],
)
def test_the_number_of_texts_that_a_server_names(message: str, limit: int | None) -> None:
    found = read_reply(HttpReply(400, json.dumps(said(message)).encode()), TEXTS)
    assert isinstance(found, Fault)
    assert (found.kind, found.limit) == (FaultKind.BATCH, limit)


def test_a_good_body_is_given_as_it_is() -> None:
    body: dict[str, object] = {
        "choices": [{"message": {"content": "an error: model not found"}}],
        "error": None,
    }
    assert read_reply(HttpReply(200, json.dumps(body).encode()), CHAT) == body
    assert read_reply(HttpReply(201, b'{"data": []}'), TEXTS) == {"data": []}
    body["base_resp"] = {"status_code": 0, "status_msg": ""}
    assert read_reply(HttpReply(200, json.dumps(body).encode()), CHAT) == body


def test_a_page_is_named_by_its_title_and_a_servers_words_are_one_line() -> None:
    found = read_reply(HttpReply(200, PAGE, "text/html"), CHAT)
    assert isinstance(found, Fault)
    assert found.words == "HTTP 200: a web page, 'Sign in'"
    long = said("a\nb " * 100_000)
    found = read_reply(HttpReply(400, json.dumps(long).encode()), CHAT)
    assert isinstance(found, Fault)
    assert len(found.words) <= 300
    assert "\n" not in found.words


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, said(["top_k is not allowed", "seed is none"]), "top_k is not allowed; seed is none"),
        (400, {"message": ["too warm", "too long"], "error": "Bad Request"}, "Bad Request: too wa"),
        (400, {"message": ["one"], "statusCode": 400}, "one"),
        (200, {"choices": None, "base_resp": {"status_code": 7, "status_msg": "no"}}, "no"),
        (200, {"error_code": 17, "error_msg": "daily limit"}, "daily limit"),
        (502, {"error": True, "message": "upstream is down"}, "upstream is down"),
        (404, {"error": "not here", "detail": "not here"}, "not here"),
        (500, {"errors": [{"message": "first"}, {"message": "second"}]}, "first"),
    ],
)
def test_the_words_of_an_error_are_told_in_whatever_form(
    status: int, body: object, words: str
) -> None:
    found = read_reply(HttpReply(status, json.dumps(body).encode()), CHAT)
    assert isinstance(found, Fault)
    assert found.words.startswith(f"HTTP {status}: {words}")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("", None),
        (None, None),
        ("soon", None),
        ("nan", None),
    ],
)
def test_the_wait_that_a_server_asks_for(header: str | None, seconds: float | None) -> None:
    assert seconds_of(header) == seconds


def test_the_wait_may_be_a_date() -> None:
    found = seconds_of(formatdate(time.time() + 100, usegmt=True))
    assert found is not None
    assert 90 < found <= 100


def test_a_server_that_says_when_to_come_back_is_busy_and_not_down() -> None:
    found = read_reply(HttpReply(503, b"{}", "", "3"), CHAT)
    assert isinstance(found, Fault)
    assert (found.kind, found.retry_after) == (FaultKind.BUSY, 3.0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_of_any_unicode_encoding_is_read(encoding: str) -> None:
    body = {"choices": [{"message": {"content": "Käse"}}]}
    content = json.dumps(body, ensure_ascii=False).encode(encoding)
    assert read_reply(HttpReply(200, content), CHAT) == body
    error = json.dumps(said("Insufficient Balance")).encode(encoding)
    assert kind_of(402, error) is FaultKind.CREDIT


def test_half_an_emoji_at_the_end_of_an_answer_is_left_out() -> None:
    content = b'{"choices": [{"message": {"content": "Oats \\ud83d"}}]}'
    assert read_reply(HttpReply(200, content), CHAT) == {
        "choices": [{"message": {"content": "Oats "}}]
    }


def stream(*parts: dict[str, object], end: str = "data: [DONE]\n\n") -> bytes:
    return "".join(f"data: {json.dumps(part)}\n\n" for part in parts).encode() + end.encode()


def chunk(content: object, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}


def test_a_stream_that_nobody_asked_for_is_joined() -> None:
    whole = stream(chunk("The "), chunk(None), chunk("person"), chunk("", "stop"))
    assert read_reply(HttpReply(200, b": comment\n\n" + whole), CHAT) == {
        "choices": [{"message": {"content": "The person"}, "finish_reason": "stop"}],
        "usage": None,
    }


def test_a_stream_that_is_cut_is_no_answer_and_its_error_is_told() -> None:
    assert kind_of(200, stream(chunk("The "), chunk("per"), end="")) is FaultKind.BAD_ANSWER
    assert kind_of(200, stream(chunk("The ", "stop"), end="data: {")) is FaultKind.BAD_ANSWER
    ended = stream(chunk("The "), said("rate limited", code=429))
    assert kind_of(200, ended) is FaultKind.BUSY


@pytest.mark.parametrize("code", ["²", "1" * 5000, "٤٠٤", -1, 10**30])
def test_a_code_that_is_no_status_is_read_as_none(code: object) -> None:
    assert kind_of(400, said("bad", code=code)) is FaultKind.PROMPT


@pytest.mark.parametrize(
    "date",
    [
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2026 00:00:00 +9999999999999",
        "Mon, 99999999999999999999 Jan 2026 00:00:00 GMT",
    ],
)
def test_a_date_that_no_calendar_has_is_no_wait(date: str) -> None:
    assert seconds_of(date) is None


def test_a_long_name_of_an_error_is_searched_at_its_beginning_only() -> None:
    began = time.process_time()
    assert kind_of(400, said("bad", code="system " * 200_000)) is FaultKind.PROMPT
    assert time.process_time() - began < 2


def test_the_words_of_every_fault_are_one_short_line_without_control_characters() -> None:
    fault = Fault(FaultKind.BAD_ANSWER, "it says \x1b]0;title\x07\nERROR forged " + "x" * 9000)
    assert fault.words.isprintable()
    assert len(fault.words) <= REASON_CHARACTERS
