"""PREFECT_API_URL as people set it."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from artifacts.user_error import InvalidSettingError
from flows.server.api import api_url_of, has_started, prefect_api
from tasks.llm.providers.dummy_endpoint import running_app
from tasks.system.free_port import free_port
from tasks.system.proxies import UnusableProxyError

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def server() -> Iterator[str]:
    """Answers as Prefect's server does: its API below ``/api``, its page everywhere else."""
    app = FastAPI(openapi_url=None)
    app.get("/api/health")(lambda: True)
    app.get("/{path:path}")(lambda path: HTMLResponse("<html>Prefect</html>"))
    with running_app(app) as running:
        yield f"http://{running.host}:{running.port}"


@pytest.mark.parametrize("end", ["", "/", " "])
def test_a_url_without_api_is_completed_and_said(
    server: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert api_url_of(f"{server}{end}") == f"{server}/api"
    assert "lacks /api" in caplog.text


@pytest.mark.parametrize("end", ["/api", "/api/", "/api/accounts/a/workspaces/b"])
def test_a_url_of_an_api_is_taken_as_it_is(server: str, end: str) -> None:
    assert api_url_of(f"{server}{end}") == f"{server}{end}".rstrip("/")


def test_a_run_says_that_it_lives_before_its_silence_has_it_marked_crashed(
    server: str, tmp_path: Path
) -> None:
    automations = yaml.safe_load((REPOSITORY / "flows" / "automations.yaml").read_text())
    silence = automations["automations"][0]["trigger"]["within"]
    with (
        temporary_settings({PREFECT_API_URL: f"{server}/api"}),
        prefect_api(tmp_path / "server.log"),
    ):
        every = get_current_settings().flows.heartbeat_frequency
    assert every is not None
    assert every < silence / 2


def test_a_server_that_is_not_there_is_left_to_the_run() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert api_url_of(url) == url


@pytest.mark.parametrize(
    "url", ["localhost:4200/api", "4200", "ftp://host/api", "http://", "http://[::1", "http://h:x"]
)
def test_what_is_no_address_is_named(url: str) -> None:
    with pytest.raises(InvalidSettingError, match=r"PREFECT_API_URL=.*http://HOST:4200/api"):
        api_url_of(url)


def test_a_proxy_that_cannot_be_used_is_named_before_prefect_goes_around_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:9")
    for name in ("HTTP_PROXY", "http_proxy", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UnusableProxyError, match="ALL_PROXY"):
        api_url_of("http://prefect.example/api")


def test_a_server_of_another_user_does_not_count_as_started(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert has_started(f"{server}/api", lambda: True, 5)
    monkeypatch.setattr("flows.server.api.is_foreign", lambda port: server.endswith(f":{port}"))
    assert not has_started(f"{server}/api", lambda: True, 1)
