"""Who answers, with which key, and that nothing is started before someone must answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.system import Secret
from pydantic import SecretStr

from artifacts.user_error import InvalidSettingError
from tasks.llm.providers import dummy_endpoint, endpoints
from tasks.llm.providers.endpoints import (
    DUMMY_NOTE,
    IncompleteEndpointError,
    open_endpoints,
    resolve_provider,
)
from tasks.llm.providers.local_setup import CHAT_MODEL_NAME, EMBEDDING_MODEL_NAME
from tasks.llm.settings.batch_config import BatchStart
from tasks.llm.settings.llm_config import (
    ChatConfig,
    EmbeddingConfig,
    EndpointSpec,
    LlmConfig,
    NoApiKeyError,
    Provider,
    api_key,
)

URL = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("LLM4CDSR_API_KEY", raising=False)


def at_url(model: str | None = "m") -> LlmConfig:
    return LlmConfig(
        chat=ChatConfig(base_url=URL, model=model),
        embedding=EmbeddingConfig(base_url=URL, model=model),
    )


@pytest.mark.parametrize(
    ("config", "base_url", "key", "expected"),
    [
        (LlmConfig(), None, None, Provider.LOCAL),
        (LlmConfig(), None, "", Provider.LOCAL),
        (LlmConfig(), None, "sk-1", Provider.OPENAI),
        (LlmConfig(), None, " \n", Provider.LOCAL),
        (LlmConfig(api_key_secret="block"), None, None, Provider.OPENAI),
        (LlmConfig(), URL, None, Provider.OPENAI),
        (LlmConfig(provider=Provider.DUMMY), None, "sk-1", Provider.DUMMY),
        (LlmConfig(provider=Provider.LOCAL), None, "sk-1", Provider.LOCAL),
    ],
)
def test_the_provider_is_as_configured_and_else_follows_urls_and_keys(
    config: LlmConfig,
    base_url: str | None,
    key: str | None,
    expected: Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    assert resolve_provider(config, base_url) is expected


def opened(config: LlmConfig, folder: Path) -> tuple[EndpointSpec, EndpointSpec]:
    with open_endpoints(config, folder / "venv", folder / "logs") as found:
        return found.chat.spec(), found.embedding.spec()


def test_openai_is_shown_openais_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", " sk-1\n")
    for spec in opened(LlmConfig(), tmp_path):
        assert spec.base_url is None
        assert api_key(spec).get_secret_value() == "sk-1"
        assert "sk-1" not in spec.model_dump_json() + repr(spec) + repr(api_key(spec))


def test_a_configured_url_is_never_shown_openais_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    specs = opened(at_url(), tmp_path)
    assert [api_key(spec).get_secret_value() for spec in specs] == ["none", "none"]
    monkeypatch.setenv("LLM4CDSR_API_KEY", "own")
    assert [api_key(spec).get_secret_value() for spec in specs] == ["own", "own"]


def test_the_dummy_is_shown_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("LLM4CDSR_API_KEY", "own")
    for spec in opened(LlmConfig(provider=Provider.DUMMY), tmp_path):
        assert api_key(spec).get_secret_value() == "none"


def test_openai_without_a_key_says_what_to_set(tmp_path: Path) -> None:
    spec, _ = opened(LlmConfig(provider=Provider.OPENAI), tmp_path)
    with pytest.raises(NoApiKeyError, match="OPENAI_API_KEY"):
        api_key(spec)


@pytest.mark.parametrize("key", ["sk-“abc”", "sk-абв", "sk-a\nb", "\ufeffsk-abc"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM4CDSR_API_KEY", key)
    with pytest.raises(InvalidSettingError, match=r"^LLM4CDSR_API_KEY .*U\+[0-9A-F]{4}") as raised:
        opened(at_url(), tmp_path)
    assert "sk-" not in str(raised.value)


def test_a_copied_model_name_may_end_in_a_blank() -> None:
    assert ChatConfig(model=" m\n").model == "m"


def test_a_key_in_a_prefect_block_is_read_there(
    tmp_path: Path, in_flow: Callable[[Callable[[], Any]], Any]
) -> None:
    Secret(value=SecretStr("sk-in-block")).save("llm4cdsr-test", overwrite=True)
    spec, _ = opened(LlmConfig(api_key_secret="llm4cdsr-test"), tmp_path)
    assert api_key(spec).get_secret_value() == "sk-in-block"
    assert "sk-in-block" not in spec.model_dump_json()


def test_a_url_without_a_model_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with (
        pytest.raises(
            IncompleteEndpointError,
            match=r"set LLM4CDSR_CHAT_MODEL to one that GET http://127.0.0.1:9/v1/models lists",
        ),
        open_endpoints(at_url(model=None), tmp_path, tmp_path),
    ):
        pass


class _NeverStarted:
    """Stands where the local pair does and counts what is done with it."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.started = False
        self.stopped = 0

    def start(self) -> None:
        self.started = True

    def stop(self) -> None:
        self.stopped += 1

    def base_url(self, role: str) -> str:
        return f"http://127.0.0.1:1/{role}/v1"

    def batch_start(self, role: str) -> BatchStart:
        return BatchStart(["answer", role], {})


def test_local_servers_start_with_the_first_spec_and_stop_with_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs: list[_NeverStarted] = []

    def make(*arguments: object, **options: object) -> _NeverStarted:
        pairs.append(_NeverStarted(*arguments, **options))
        return pairs[-1]

    monkeypatch.setattr(endpoints, "LocalVllm", make)
    with open_endpoints(LlmConfig(), tmp_path, tmp_path) as found:
        assert (found.chat.model, found.embedding.model) == (CHAT_MODEL_NAME, EMBEDDING_MODEL_NAME)
        assert found.chat.batch_start is not None
        assert found.chat.batch_start().command == ["answer", "chat"]
        assert found.chat.parameters  # Names and parameters are known without a server.
        assert not pairs[0].started
        assert found.embedding.spec().base_url == "http://127.0.0.1:1/embedding/v1"
        assert pairs[0].started
        assert not pairs[0].stopped
        assert found.chat.spec().base_url == "http://127.0.0.1:1/chat/v1"
    assert pairs[0].stopped == 1


def test_nothing_is_started_or_stopped_where_nothing_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a dummy was started")

    monkeypatch.setattr(dummy_endpoint, "running_dummy_endpoint", refuse)
    with open_endpoints(LlmConfig(provider=Provider.DUMMY), tmp_path, tmp_path) as found:
        assert found.chat.notes == (DUMMY_NOTE,)
    with open_endpoints(LlmConfig(), tmp_path, tmp_path):
        pass


def test_both_roles_share_one_dummy(tmp_path: Path) -> None:
    chat, embedding = opened(LlmConfig(provider=Provider.DUMMY), tmp_path)
    assert chat.base_url == embedding.base_url


def test_a_stand_in_marks_what_it_makes_and_a_model_does_not(tmp_path: Path) -> None:
    for config, notes in ((LlmConfig(provider=Provider.DUMMY), (DUMMY_NOTE,)), (at_url(), ())):
        with open_endpoints(config, tmp_path, tmp_path) as found:
            assert found.chat.notes == notes == found.embedding.notes


def test_settings_of_a_role_reach_its_spec(tmp_path: Path) -> None:
    config = LlmConfig(
        chat=ChatConfig(base_url=URL, model="c", concurrency=5, timeout_seconds=7, temperature=0.3),
        embedding=EmbeddingConfig(base_url=URL, model="e", concurrency=2, batch_size=9),
        max_retries=4,
    )
    chat, embedding = opened(config, tmp_path)
    assert (chat.model, chat.concurrency, chat.timeout_seconds, chat.batch_size) == ("c", 5, 7, 1)
    assert chat.parameters == {"temperature": 0.3}
    assert (embedding.model, embedding.concurrency, embedding.batch_size) == ("e", 2, 9)
    assert (chat.max_retries, embedding.max_retries) == (4, 4)


def test_a_mistyped_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        ChatConfig.model_validate({"modle": "x"})


def test_how_fast_models_are_asked_decides_no_answer() -> None:
    hurried = LlmConfig(
        chat=ChatConfig(concurrency=3, requests_per_minute=60),
        embedding=EmbeddingConfig(batch_size=2),
        outage_minutes=1,
        max_failed_share=0.5,
    )
    assert hurried.answer_settings() == LlmConfig().answer_settings()
    for other in (
        LlmConfig(chat=ChatConfig(temperature=0.7)),
        LlmConfig(embedding=EmbeddingConfig(model="m")),
        LlmConfig(provider=Provider.DUMMY),
        at_url(),
    ):
        assert other.answer_settings() != LlmConfig().answer_settings()
