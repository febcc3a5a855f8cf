"""Proxy variables: used where they apply, named where they can't be, and nobody's trace."""

import itertools

import httpx
import httpx2
import pytest

from tasks.system.proxies import UnusableProxyError, proxy_for, tame_proxy_variables

REMOTE = "https://api.openai.com/v1"
MALFORMED = [
    "socks://127.0.0.1:9",
    "socks4://127.0.0.1:9",
    "http://proxy:port",
    "http://[::1",
    "http://",
    "http://proxy:99999",
    '"http://proxy:1"',
    " http://proxy:1",
    "ftp://proxy:1",
    "://proxy",
]
NO_PROXIES = [
    "localhost,fd00::/8",
    "fd00::/8",
    "::/0, [fd00::1]/64",
    "[fe80::1]:80,fe80::1%eth0",
    "*.corp,10.0.0.0/8,[::1],::1,http://x,a b",
    "*",
    "example.com:8080",
]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme, spell in itertools.product(("http", "https", "all", "no"), (str.lower, str.upper)):
        name = spell(f"{scheme}_proxy")
        # Set first, so that what the code under test sets by itself is taken back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("value", MALFORMED)
def test_libraries_start_whatever_a_proxy_variable_holds(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name.lower(), "")
    monkeypatch.setenv(name.upper(), "")
    monkeypatch.setenv(name, value)
    tame_proxy_variables()
    httpx.Client().close()
    httpx2.Client().close()
    assert proxy_for("http://127.0.0.1:8000/v1") is None
    assert proxy_for("http://localhost:8000/v1") is None
    if name != "HTTP_PROXY":
        with pytest.raises(UnusableProxyError, match=f"{name.upper()}="):
            proxy_for(REMOTE)


@pytest.mark.parametrize("value", NO_PROXIES)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_libraries_start_whatever_the_exceptions_are(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    tame_proxy_variables()
    httpx.Client().close()
    httpx2.Client().close()


@pytest.mark.parametrize(
    ("spared", "url", "is_spared"),
    [
        ("fd00::/8", "http://[fd00::5]:8000/v1", True),
        ("fd00::/8", "http://[fe00::5]:8000/v1", False),
        ("10.0.0.0/8", "http://10.1.2.3/v1", True),
        ("10.0.0.0/8", "http://11.1.2.3/v1", False),
        ("corp.example", "http://llm.corp.example/v1", True),
        (".corp.example", "http://llm.corp.example/v1", True),
        ("*.corp.example", "http://llm.corp.example/v1", True),
        ("corp.example", "http://mycorp.example/v1", False),
        ("llm:8000", "http://llm:8000/v1", True),
        ("llm:8000", "http://llm:9000/v1", False),
        ("[fd00::1]:80", "http://[fd00::1]/v1", True),
        ("a, b ,llm", "http://llm/v1", True),
        ("LLM", "http://llm/v1", True),
        ("*", "http://llm/v1", True),
        ("", "http://llm/v1", False),
    ],
)
def test_exceptions_are_understood_in_every_usual_form(
    spared: str, url: str, is_spared: bool
) -> None:
    environment = {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": spared}
    tame_proxy_variables(environment)
    assert proxy_for(url, environment) == (None if is_spared else "http://proxy:3128")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://a:1"}, "http://a:1"),
        ({"HTTPS_PROXY": "a:1"}, "http://a:1"),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}, "http://b:1"),
        ({"HTTP_PROXY": "http://a:1"}, None),
        ({"ALL_PROXY": "http://a:1"}, "http://a:1"),
        ({"ALL_PROXY": "socks://a:1", "HTTPS_PROXY": "http://b:1"}, "http://b:1"),
        ({"ALL_PROXY": "socks://a:1", "NO_PROXY": "openai.com"}, None),
    ],
    ids=str,
)
def test_the_variable_that_applies_is_used(
    environment: dict[str, str], expected: str | None
) -> None:
    for _ in range(2):  # A child process finds what its parent left.
        assert proxy_for(REMOTE, environment) == expected
        tame_proxy_variables(environment)


def test_a_password_in_a_proxy_is_not_shown() -> None:
    with pytest.raises(UnusableProxyError) as raised:
        proxy_for(REMOTE, {"ALL_PROXY": "socks://user:hunter2@a:1"})
    assert "hunter2" not in str(raised.value)
