"""One text that a server cannot take: it alone fails, wherever it stands and whatever is said."""

import itertools
from collections.abc import Iterable

import pytest

from artifacts.ledger.answers import Role
from tests.imitated_servers import Call, Imitation, Reply, error, imitated, poison, vectors
from tests.tasks.llm.client.asking_imitations import ask, spec_at

pytestmark = pytest.mark.usefixtures("quick_retries")

NOT_A_NUMBER = Reply(
    500,
    {
        "error": {
            "code": 500,
            "message": "failed to encode response: json: unsupported value: NaN",
            "type": "server_error",
        }
    },
)
REFUSALS = {
    "500": NOT_A_NUMBER,
    "500 in plain text": Reply(500, b"Internal Server Error", content_type="text/plain"),
    "503": error(503, "the worker died"),
    "502, a page": Reply(
        502, b"<html><title>502 Bad Gateway</title></html>", content_type="text/html"
    ),
    "400": error(400, "invalid text"),
    "422": Reply(422, {"detail": "unprocessable"}),
    "413": Reply(413, {"error": "payload too large"}),
    "200 with an error": Reply(200, {"error": {"message": "tokenizer failed"}}),
    "200, broken off": Reply(200, b'{"data": [{"index": 0, "emb'),
}
PLACES = {
    "first": {0},
    "in the middle": {37},
    "last": {191},
    "two in a row": {100, 101},
    "the last six": {186, 187, 188, 189, 190, 191},
    "the first six": {0, 1, 2, 3, 4, 5},
    "spread": {3, 50, 64, 65, 127, 128, 150},
}


def alternating(refusals: Iterable[str]) -> list[tuple[str, str, int]]:
    """Every place with every refusal, one request at a time or several in turns."""
    pairs = itertools.product(PLACES, refusals)
    return [(*pair, (1, 8)[number % 2]) for number, pair in enumerate(pairs)]


def texts_with(places: set[int], count: int = 192) -> list[str]:
    return [f"{'poison' if number in places else 'text'} {number}" for number in range(count)]


@pytest.mark.parametrize(("places", "refusal", "concurrency"), alternating(REFUSALS))
def test_texts_that_cannot_be_embedded_fail_alone(
    places: str, refusal: str, concurrency: int
) -> None:
    offending = PLACES[places]
    with imitated(Imitation("x", (poison("poison", REFUSALS[refusal]),))) as server:
        spec = spec_at(server, Role.EMBEDDING, concurrency=concurrency, max_retries=3)
        answers, failures = ask(texts_with(offending), spec)
        assert {failure.key for failure in failures} == {f"poison {place}" for place in offending}
        assert len(answers) == 192 - len(offending)
        assert server.paid_twice == 0 or "hello" in server.paid


@pytest.mark.parametrize(
    ("places", "refusal", "concurrency"), alternating(["500", "400", "200, broken off"])
)
def test_prompts_that_cannot_be_answered_fail_alone(
    places: str, refusal: str, concurrency: int
) -> None:
    offending = PLACES[places]
    with imitated(Imitation("x", (poison("poison", REFUSALS[refusal]),))) as server:
        spec = spec_at(server, concurrency=concurrency, max_retries=3)
        answers, failures = ask(texts_with(offending), spec)
        assert {failure.key for failure in failures} == {f"poison {place}" for place in offending}
        assert len(answers) == 192 - len(offending)


def test_every_batch_may_hold_one_and_the_server_is_never_taken_to_be_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    offending = set(range(10, 640, 64))
    with imitated(Imitation("x", (poison("poison", NOT_A_NUMBER),))) as server:
        answers, failures = ask(
            texts_with(offending, 640), spec_at(server, Role.EMBEDDING, max_retries=2)
        )
        assert (len(answers), len(failures)) == (630, 10)


@pytest.mark.parametrize(
    "spoiled", [[0.0] * 32, [None] * 32, [1.0] * 31, [], None, "%%%", [float("inf")] * 32], ids=str
)
def test_a_vector_that_is_none_is_asked_for_again_alone_and_its_neighbours_are_kept(
    spoiled: object,
) -> None:
    whole = vectors(is_list=True)

    def form(call: Call) -> dict[str, object]:
        reply = whole(call)
        for text, entry in zip(call.texts, reply["data"], strict=True):
            if text == "poison 7":
                entry["embedding"] = spoiled
        return reply

    with imitated(Imitation("x", embeddings=form)) as server:
        answers, failures = ask(texts_with({7}), spec_at(server, Role.EMBEDDING))
        assert [failure.key for failure in failures] == ["poison 7"]
        assert len(answers) == 191
        # Three tries in all, the last two of it alone; where the first batch has vectors of two
        # widths it is not known which is right, and the batch is taken apart.
        assert server.requests <= 3 + (4 if spoiled == [1.0] * 31 else 2)


def test_vectors_of_another_width_fail_their_batches_and_are_not_asked_for_text_by_text() -> None:
    whole = vectors(is_list=True)

    def form(call: Call) -> dict[str, object]:
        reply = whole(call)
        if call.number:
            for entry in reply["data"]:
                entry["embedding"] = entry["embedding"][:-1]
        return reply

    with imitated(Imitation("x", embeddings=form)) as server:
        answers, failures = ask(texts_with(set()), spec_at(server, Role.EMBEDDING, concurrency=1))
        assert (len(answers), len(failures)) == (64, 128)
        assert "31 numbers were returned, earlier ones have 32" in failures[0].reason
        assert server.requests == 1 + 2 * 3
