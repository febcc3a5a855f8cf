"""``llm4cdsr doctor``: checks the requirements of a run; each finding has a remedy."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from flows.cli.options.opened_store import opened_store
from flows.cli.options.shared_options import StoreRoot
from flows.cli.output import terminal

if TYPE_CHECKING:
    from flows.cli.diagnosis.finding import Finding

EXAMPLES = "Examples:\n\nllm4cdsr doctor\n\nllm4cdsr doctor --json"

TROUBLE = 1
_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def doctor(
    store: StoreRoot = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check environment, versions, endpoints, store, clock and Prefect server.

    Sends no paid request, changes nothing, shows no key. Exit status 1 if a finding would make a
    run fail.
    """
    found: list[Finding] = []
    for each in _findings(store):
        found.append(each)
        if not as_json:
            _tell(each)
    if as_json:
        document = [each.model_dump(mode="json") for each in found]
        terminal.out.print(json.dumps(document, indent=2), soft_wrap=True)
    if any(each.severity == "error" for each in found):
        raise typer.Exit(TROUBLE)


def _findings(store: str | None) -> Iterator["Finding"]:
    from flows.cli.diagnosis import environment_checks, server_checks, store_checks
    from flows.settings import Settings

    yield from environment_checks.versions()
    broken = [each for each in environment_checks.settings() if each.severity == "error"]
    yield from environment_checks.settings()
    if broken:
        return
    settings = Settings()
    opened = opened_store(store)
    yield from store_checks.readable("store", store_checks.place(opened))
    yield from store_checks.readable("served", store_checks.served(opened))
    yield from store_checks.readable("ledger", store_checks.ledger(opened))
    yield from store_checks.readable("leftovers", store_checks.leftovers(opened))
    yield from environment_checks.clock(opened)
    yield from server_checks.endpoints(settings)
    yield from store_checks.readable("prefect", server_checks.prefect(opened))


def _tell(each: "Finding") -> None:
    severity = (f"{each.severity.value:8}", _STYLES[each.severity])
    line = Text.assemble(severity, (f"{each.check:19}", "bold"), each.found)
    terminal.say(line)
    if each.remedy:
        terminal.say(Text(f"{'':27}→ {each.remedy}"))
