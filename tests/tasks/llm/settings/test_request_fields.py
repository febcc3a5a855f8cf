"""Further fields of requests: the user's to choose, part of the key, and never a credential."""

import pytest
from pydantic import JsonValue, ValidationError

from artifacts.ledger.answers import answer_key
from prompts.render import ChatPrompt, Message
from tasks.llm.answer_all import chat_keys
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import ChatConfig, EmbeddingConfig, EndpointSpec, LlmConfig
from tasks.llm.settings.request_fields import as_sent, chat_fields, checked_fields, deciding

SECRET = "sk-abcdef0123456789"


@pytest.mark.parametrize(
    "fields",
    [
        {"enable_thinking": False},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"reasoning_effort": "minimal", "max_completion_tokens": 2000, "temperature": None},
        {"reasoning": {"max_tokens": 100}, "provider": {"order": ["a", "b"]}},
        {"input_type": "passage", "truncate_prompt_tokens": 512, "dimensions": 256},
        {"prompt_cache_key": "pipeline", "stop_token_ids": [1], "skip_special_tokens": True},
        {"stop": ["\n"], "logit_bias": {"50256": -100}, "keep_alive": "10m"},
        {},
    ],
    ids=str,
)
def test_what_providers_want_may_be_set(fields: dict[str, JsonValue]) -> None:
    assert checked_fields(fields) == fields


@pytest.mark.parametrize(
    "fields",
    [
        {"api_key": SECRET},
        {"key": "abc"},
        {"api-key": "abc"},
        {"apiKey": "abc"},
        {"x-api-key": "abc"},
        {"extra_headers": {"Authorization": "abc"}},
        {"extra_headers": {"X": f"Bearer {SECRET}"}},
        {"metadata": {"note": SECRET}},
        {"user": "gsk_abcdefghij"},
        {"litellm_params": [{"aws_secret_access_key": "abc"}]},
        {"password": "abc"},
        {"azure_ad_token": "abc"},
        {"session": {"cookie": "abc"}},
        {"note": "eyJhbGciOiJIUzI1NiJ9.e30.x"},
    ],
    ids=lambda fields: "-".join(fields),
)
@pytest.mark.parametrize("config", [ChatConfig, EmbeddingConfig, LlmConfig])
def test_a_credential_is_refused_and_not_quoted(
    fields: dict[str, JsonValue], config: type[ChatConfig | EmbeddingConfig | LlmConfig]
) -> None:
    given: JsonValue = {"parameters": fields}
    if config is LlmConfig:
        given = {"chat": given}
    with pytest.raises(ValidationError, match="LLM4CDSR_API_KEY") as raised:
        config.model_validate(given)
    for value in (SECRET, "abc", "eyJ", "gsk_"):
        assert value not in str(raised.value)
        assert value not in repr(raised.value)


def test_the_configured_key_is_recognised_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLM4CDSR_API_KEY", "hunter2-of-ours")
    with pytest.raises(ValueError, match="looks like a credential"):
        checked_fields({"note": "say hunter2-of-ours aloud"})


@pytest.mark.parametrize("name", ["model", "messages", "input", "stream", "n"])
def test_what_a_request_is_made_of_is_not_the_users(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is set by the pipeline"):
        checked_fields({name: 1})


@pytest.mark.parametrize(
    "url", ["http://u:p@host/v1", "http://host/v1?api_key=x", "http://h?sig=x"]
)
def test_a_url_with_a_credential_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ValidationError, match="must not contain a key or password") as raised:
        ChatConfig(base_url=f"http://other/v1, {url}", model="m")
    assert "host" not in str(raised.value).replace("HOST", "")


def test_a_url_may_name_a_version() -> None:
    url = "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21"
    assert ChatConfig(base_url=url, model="d").base_url == url


def test_fields_that_change_answers_are_part_of_the_key_and_others_are_not() -> None:
    fields: dict[str, JsonValue] = {"top_p": 0.5, "user": "me", "service_tier": "flex"}
    assert deciding(fields) == {"top_p": 0.5}


def key_of(parameters: dict[str, JsonValue]) -> str:
    def spec() -> EndpointSpec:
        raise AssertionError("nobody is asked")

    prompt = ChatPrompt(messages=(Message(role="user", content="who?"),))
    return chat_keys([prompt], Endpoint("m", parameters, (), spec), 80)["key"][0]


def test_keys_are_what_they_were_before_there_were_further_fields() -> None:
    document: JsonValue = {"messages": [{"role": "user", "content": "who?"}]}
    expected = answer_key("m", {"temperature": 0.2, "max_tokens": 80}, document)
    assert key_of({"temperature": 0.2}) == expected
    assert expected == "ddaf7d69a5f10787606e201e3c15aef8adc4ea09aa9603ff05044480a2c42228"


def test_a_limit_of_tokens_that_is_configured_is_part_of_the_key() -> None:
    given: list[dict[str, JsonValue]] = [{}, {"max_tokens": 90}, {"max_completion_tokens": 90}]
    assert len({key_of(fields) for fields in given}) == 3


def test_null_leaves_a_field_out_and_one_limit_of_tokens_is_sent() -> None:
    assert as_sent(chat_fields(80, {"temperature": None})) == {"max_tokens": 80}
    assert as_sent(chat_fields(80, {"max_tokens": 90})) == {"max_tokens": 90}
    assert as_sent(chat_fields(80, {"max_completion_tokens": 90})) == {"max_completion_tokens": 90}
    assert as_sent(chat_fields(80, {"max_completion_tokens": None})) == {"max_tokens": 80}
