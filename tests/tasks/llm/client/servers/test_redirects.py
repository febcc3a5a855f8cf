"""Redirects: followed within the origin, method and body kept, and no key shown to another."""

import httpx2
import pytest

from artifacts.ledger.answers import Role
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.servers.transport import is_same_origin
from tests.imitated_servers import Imitation, Reply, imitated, moved
from tests.tasks.llm.client.asking_imitations import KEY_VARIABLE, ask, spec_at

pytestmark = pytest.mark.usefixtures("quick_retries")

TEXTS = [f"text {number}" for number in range(40)]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("role", Role)
def test_a_redirect_is_followed_once_with_method_and_body(status: int, role: Role) -> None:
    with imitated(Imitation("x", (moved(status, "/old", "/v1"),), path="/old")) as server:
        answers, failures = ask(TEXTS, spec_at(server, role))
        assert (len(answers), failures) == (40, [])
        assert sum(code == status for code in server.statuses) == 1


def test_a_redirect_to_a_whole_address_of_the_same_server_is_followed() -> None:
    address = ""

    def rule(call) -> Reply | None:  # noqa: ANN001
        if call.path.endswith("/"):
            return None
        return Reply(307, b"", {"location": f"{address}{call.path}/"})

    with imitated(Imitation("x", (rule,))) as server:
        address = server.base_url.removesuffix("/v1")
        answers, failures = ask(TEXTS, spec_at(server))
        assert (len(answers), failures) == (40, [])


@pytest.mark.parametrize("to", ["another port", "another host", "another scheme"])
def test_another_server_is_shown_nothing_and_named(
    to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret-0123456789")
    with imitated(Imitation("other")) as other:
        target = {
            "another port": other.base_url,
            "another host": other.base_url.replace("127.0.0.1", "localhost"),
            "another scheme": other.base_url.replace("http:", "https:"),
        }[to]
        rule = moved(302, "/v1", target)
        with imitated(Imitation("x", (rule,))) as server:
            with pytest.raises(EndpointRefusedError, match="does not receive the key"):
                ask(TEXTS, spec_at(server))
            assert server.requests == 1
        assert other.requests == 0


def test_a_redirect_in_a_circle_ends() -> None:
    with imitated(Imitation("x", (moved(302, "/v1", "/v1"),))) as server:
        with pytest.raises(EndpointRefusedError, match="redirects more than"):
            ask(TEXTS, spec_at(server))
        assert server.requests <= 5


@pytest.mark.parametrize(
    ("url", "target", "same"),
    [
        ("http://a/v1", "https://a/v1", True),
        ("http://a:80/v1", "https://a:443/v1", True),
        ("https://a/v1", "http://a/v1", False),
        ("http://a:8000/v1", "https://a/v1", False),
        ("http://a:8000/v1", "https://a:8000/v1", False),
        ("http://a/v1", "http://b/v1", False),
        ("http://a/v1", "http://a.b/v1", False),
        ("http://a/v1", "http://u:p@a/v2", True),
        ("https://a/v1", "https://a:444/v1", False),
    ],
)
def test_what_counts_as_the_same_server(url: str, target: str, same: bool) -> None:
    assert is_same_origin(httpx2.URL(url), httpx2.URL(target)) == same
