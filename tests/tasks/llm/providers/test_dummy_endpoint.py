"""The dummy endpoint behaves as an OpenAI server does, seen through the real client."""

import base64
import re
import socket
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest

from tasks.llm.providers.dummy_endpoint import (
    CHAT_MODEL,
    DIMENSIONS,
    EMBEDDING_MODEL,
    DummyServer,
    embed_texts,
    running_dummy_endpoint,
    write_answer,
)

LONG_PROMPT = "Titles:\n- Espresso Tamper\n- Espresso Cup\n- Milk Pitcher\nSay what they like."


@pytest.fixture(scope="module")
def server() -> Iterator[DummyServer]:
    with running_dummy_endpoint() as running:
        yield running


@pytest.fixture(scope="module")
def client(server: DummyServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def http(server: DummyServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{server.host}:{server.port}") as opened:
        yield opened


def ask(client: openai.OpenAI, prompt: str, max_tokens: int | None = None) -> tuple[str, str, int]:
    reply = client.chat.completions.create(
        model=CHAT_MODEL,
        messages=[{"role": "user", "content": prompt}],
        max_tokens=max_tokens if max_tokens else openai.omit,
    )
    assert reply.usage is not None
    choice = reply.choices[0]
    return choice.message.content or "", choice.finish_reason, reply.usage.completion_tokens


def test_health_answers_and_both_models_are_listed(
    http: httpx.Client, client: openai.OpenAI
) -> None:
    assert http.get("/health").status_code == 200
    assert [model.id for model in client.models.list()] == [CHAT_MODEL, EMBEDDING_MODEL]


def test_embeddings_over_the_socket_equal_those_of_the_function(client: openai.OpenAI) -> None:
    texts = ["Stovetop Moka Pot, 6 Cups", "A Year of Sourdough", "Crème brûlée torch"]
    reply = client.embeddings.create(model=EMBEDDING_MODEL, input=texts)
    received = np.array([entry.embedding for entry in reply.data], dtype=np.float32)
    np.testing.assert_array_equal(received, embed_texts(texts))
    assert [entry.index for entry in reply.data] == [0, 1, 2]
    assert reply.usage.prompt_tokens == 6 + 4 + 3


def test_base64_is_little_endian_float32_and_equals_the_float_answer(http: httpx.Client) -> None:
    def entry(encoding: str) -> str | list[float]:
        body = {"model": EMBEDDING_MODEL, "input": "Moka pot", "encoding_format": encoding}
        return http.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]

    packed, floats = entry("base64"), entry("float")
    assert isinstance(packed, str)
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(packed), dtype="<f4"), floats)


def test_vectors_have_unit_length_even_for_stopwords_and_signs() -> None:
    vectors = embed_texts(["the", "!!!", "42", "espresso espresso espresso", "日本の本"])
    assert vectors.shape == (5, DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_a_text_is_nearer_to_a_similar_title_than_to_another_subject() -> None:
    baker, related, runner = embed_texts(
        ["Sourdough Bread for Beginners", "The Sourdough Baker's Bread Book", "Trail Running Vest"]
    )
    assert baker @ related > 0.3
    assert abs(baker @ runner) < 0.2


def test_words_with_one_stem_are_nearer_than_unrelated_words() -> None:
    craft, people, other = embed_texts(["photography", "photographers", "wheelbarrow"])
    assert craft @ people > 0.3 > abs(craft @ other)


def test_words_that_templates_repeat_do_not_make_prompts_alike() -> None:
    left, right = embed_texts(
        [
            f"The item has following attributes: name is {name}; brand is unknown"
            for name in ("Moka Pot", "Yoga Strap")
        ]
    )
    assert abs(left @ right) < 0.2


def test_a_vector_does_not_depend_on_the_batch_it_came_in() -> None:
    alone = embed_texts(["Moka Pot"])[0]
    np.testing.assert_array_equal(embed_texts(["Yoga Strap", "Moka Pot", "Vest"])[1], alone)


def test_the_title_in_front_weighs_more_than_the_prose_behind_it() -> None:
    prose = " ".join(f"filler{number}" for number in range(20))
    text, front, behind = embed_texts([f"espresso {prose} wheelbarrow", "espresso", "wheelbarrow"])
    assert text @ front > text @ behind


def test_the_hash_is_the_same_on_every_machine() -> None:
    vector = embed_texts(["espresso"])[0]
    assert [int(sign) for sign in np.sign(vector[:8])] == [1, 1, 1, 1, -1, -1, -1, -1]


@pytest.mark.parametrize("texts", ["", "  ", ["Moka pot", ""], []])
def test_empty_text_is_a_bad_request(client: openai.OpenAI, texts: str | list[str]) -> None:
    with pytest.raises(openai.BadRequestError, match="cannot be an empty"):
        client.embeddings.create(model=EMBEDDING_MODEL, input=texts)


def test_a_wrong_model_is_not_found_on_either_route(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        client.embeddings.create(model="ada", input="text")
    assert refusal.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="use 'dummy-chat'"):
        client.chat.completions.create(
            model=EMBEDDING_MODEL, messages=[{"role": "user", "content": "Hello"}]
        )


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/embeddings", b"{not json"),
        ("/v1/embeddings", b'{"model": "dummy-embedding"}'),
        ("/v1/embeddings", b'{"model": "dummy-embedding", "input": [[1, 2]]}'),
        ("/v1/embeddings", b'{"model": "dummy-embedding", "input": "a", "dimensions": 10}'),
        ("/v1/chat/completions", b'{"model": "dummy-chat", "messages": []}'),
        ("/v1/chat/completions", b'{"model": "dummy-chat", "messages": [{"role": "user"}]}'),
    ],
)
def test_a_malformed_request_gets_an_openai_error_body(
    http: httpx.Client, route: str, body: bytes
) -> None:
    reply = http.post(route, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


def test_an_answer_names_the_frequent_words_of_the_list_and_admits_its_origin(
    client: openai.OpenAI,
) -> None:
    text, reason, _ = ask(client, LONG_PROMPT)
    assert text.startswith("Interested above all in espresso, tamper, cup; also in milk, pitcher.")
    assert "dummy endpoint" in text
    assert reason == "stop"
    assert ask(client, LONG_PROMPT)[0] == text


def test_max_tokens_cuts_the_answer_and_says_so(client: openai.OpenAI) -> None:
    text, reason, tokens = ask(client, LONG_PROMPT, max_tokens=5)
    assert (text, reason, tokens) == ("Interested above all in espresso", "length", 5)


def test_a_limit_that_is_just_enough_is_no_cut() -> None:
    whole, _ = write_answer("espresso")
    needed = len(re.findall(r"\w+|[^\w\s]", whole))
    assert write_answer("espresso", max_tokens=needed) == (whole, "stop")
    assert write_answer("espresso", max_tokens=needed - 1) == (whole[:-1], "length")


def test_an_answer_fed_back_in_a_prompt_passes_on_its_words_and_not_its_phrases() -> None:
    partial = [write_answer(f"- {titles}")[0] for titles in ("Moka Pot", "Yoga Strap, Yoga Mat")]
    summary, _ = write_answer("Interests:\n" + "\n".join(f"- {text}" for text in partial))
    assert summary.startswith("Interested above all in moka, pot, yoga; also in strap, mat. (")


def test_profiles_of_different_people_are_not_alike() -> None:
    cook, runner = (write_answer(f"- {title}")[0] for title in ("Moka Pot", "Trail Vest"))
    left, right = embed_texts([cook, runner])
    assert abs(left @ right) < 0.2


def test_a_prompt_without_content_words_still_gets_an_answer() -> None:
    assert write_answer("and the of 12")[0].startswith("Nothing can be said")


def test_leaving_the_context_frees_the_port() -> None:
    with running_dummy_endpoint() as first:
        assert httpx.get(f"{first.base_url}/models").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{first.base_url}/models")
    with running_dummy_endpoint(first.port) as second:
        assert httpx.get(f"{second.base_url}/models").status_code == 200


def test_a_taken_port_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"), running_dummy_endpoint(port):
            pass
