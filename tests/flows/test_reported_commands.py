"""Commands on reported dumps, in environments and against servers that broke like tools.

Dumps and servers lie beside the repository; `tests.tasks.dump.test_reported_dumps` has the table of
all cases and their tests.
"""

import subprocess
import sys
from collections.abc import Mapping

import pytest

from flows.cli.errors.endings import BAD_INPUT, FAILED
from tests.flows.command_shop import Shop
from tests.tasks.shops.reported_cases import CASES, needs_cases, reported_server

pytestmark = needs_cases

PROXIES = ({"ALL_PROXY": "socks://127.0.0.1:9"}, {"NO_PROXY": "localhost,fd00::/8"})
EMPTY = dict.fromkeys(("ALL_PROXY", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY"), "")


def refreshed(
    shop: Shop, case: str, variables: Mapping[str, str], *options: str
) -> subprocess.CompletedProcess[str]:
    dump = CASES / case
    files = ("--interactions", str(dump / "e.csv"), "--items", str(dump / "i.csv"))
    return subprocess.run(
        [sys.executable, "-m", "flows.cli.entry", "refresh", *files, "--clusters", "2", *options],
        cwd=shop.folder,
        env={**shop.environment(), **EMPTY, **variables},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.parametrize("variables", PROXIES, ids=["socks", "network"])
def test_proxy_variables_that_do_not_concern_this_machine_disturb_nothing(
    variables: Mapping[str, str], folder_shop: Shop
) -> None:
    done = refreshed(folder_shop, "17-proxy-variables", variables, "--provider", "dummy")
    assert done.returncode == 0, done.stderr
    assert "Users with a profile: 40 of 40" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_dump_of_single_events_costs_no_request(folder_shop: Shop) -> None:
    with reported_server("nousage") as server:
        done = refreshed(folder_shop, "21-nothing-to-learn-told-late", server.variables)
        assert not server.posted
    assert done.returncode == BAD_INPUT
    assert "Failed: no user has two training events" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_rate_limit_with_status_200_ends_at_the_limit_of_time_with_its_words(
    folder_shop: Shop,
) -> None:
    with reported_server("chaterr200") as server:
        limited = {**server.variables, "LLM4CDSR_OUTAGE_MINUTES": "0.02"}
        done = refreshed(folder_shop, "16-errors-that-are-200", limited)
        assert server.posted["completions", 200] <= 20
    assert done.returncode == FAILED
    failed = " ".join(done.stderr.partition("Failed: ")[2].split())
    assert failed.startswith("analyze interests: m at ")
    assert "rate limited: HTTP 200: Provider returned error: rate limited upstream" in failed
    assert "Traceback" not in done.stdout + done.stderr
