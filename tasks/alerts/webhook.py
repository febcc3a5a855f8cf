"""Webhook messages about the end of runs, in JSON for chat tools.

The URL is a secret (chat tools have their key in the path): it comes from ``LLM4CDSR_WEBHOOK_URL``
or the Prefect Secret block ``llm4cdsr-webhook-url``, and is in no log, state or artifact. A failing
webhook does not change the end of a run; its alerts wait on disk (`outbox`).
"""

import asyncio
import logging
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
from prefect.blocks.system import Secret
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL
from pydantic import SecretStr

from artifacts.remote.url_credentials import without_credentials
from artifacts.store import Store
from tasks.alerts.outbox import FOLDER, Alert, Reception, deliver, put, waiting
from tasks.system.machine_errors import fault_in

WEBHOOK_VARIABLE = "LLM4CDSR_WEBHOOK_URL"
WEBHOOK_SECRET = "llm4cdsr-webhook-url"
_MENTIONS = re.compile(r"<(?=[!@#]|\w+:)|@(?=(?:channel|here|everyone|all)\b)")
_PREFIX = "Flow run encountered an exception: "
TIMEOUT_SECONDS = 5.0
"""Limit of a whole post. Those of httpx are for one piece each, and pieces may come for ever."""
PAUSES = (0.5, 1.0)
"""Seconds before the second and the third try of an alert at the end of a run."""
LONGEST_PAUSE = 5.0
"""Longest ``Retry-After`` that is waited for; with a longer one the alert waits on disk."""
PATIENCE_SECONDS = 30.0
"""Wait at the end of a run for another process that delivers alerts."""
NOT_NOW = frozenset({401, 403, 404, 405, 407, 408, 410, 425, 429})
"""Statuses 4xx that are about the webhook's URL, key or rate; the others refuse an alert."""
LATE = timedelta(minutes=2)
"""Delay after which the text of an alert names the time of its event."""

logger = logging.getLogger("llm4cdsr")

AnyFlow = Flow[..., Any]  # pyright: ignore[reportExplicitAny]
"""Prefect passes the flow of the run, with any signature, to a hook."""


def post_end(store: Store, flow_name: str, flow_run: FlowRun, state: State) -> bool:
    """Posts the end of a flow run, after earlier alerts that wait in the store; returns False if it
    was neither accepted nor kept for later.

    Subflow runs are not reported.
    """
    if flow_run.parent_task_run_id is not None:
        return True
    return post_alert(
        store, Alert(at=state.timestamp, document=document_of(flow_name, flow_run, state))
    )


def post_alert(store: Store, alert: Alert) -> bool:
    """Posts any alert; otherwise as `post_end`."""
    try:
        url = webhook_url()
    except httpx.HTTPError as error:
        # Whether there is a webhook is not known: the address is on a Prefect server that is gone.
        logger.warning("the webhook's address cannot be read: %s", type(error).__name__)
        url = None
    else:
        if url is None:
            return True
    try:
        put(store, alert)
    except OSError as error:
        logger.warning("an alert cannot be stored (%s); it is posted once", error)
        return url is not None and _post(url, alert, PAUSES) is Reception.ACCEPTED
    if url is not None:
        _deliver(store, url, PAUSES, PATIENCE_SECONDS)
    return True


def post_waiting(store: Store) -> None:
    """Posts the waiting alerts, until one is not accepted."""
    if waiting(store):
        # Without a webhook, old ones are dropped: else they would wait for ever.
        _deliver(store, webhook_url(), pauses=(), patience=0)


def _deliver(
    store: Store, url: SecretStr | None, pauses: tuple[float, ...], patience: float
) -> None:
    folder = store.local / FOLDER

    def post(alert: Alert) -> Reception:
        return Reception.FAILED if url is None else _post(url, alert, pauses)

    try:
        if not deliver(store, post, patience):
            logger.warning("alerts wait in %s and are posted later", folder)
    except OSError as error:
        logger.warning("alerts wait in %s: %s", folder, error)


def _post(url: SecretStr, alert: Alert, pauses: tuple[float, ...]) -> Reception:
    """Posts an alert, again after each pause while the webhook fails."""
    for pause in (*pauses, None):
        status, cause, asked_for = _answer(url, _dated(alert, datetime.now(UTC)))
        if status is not None and 200 <= status < 300:
            return Reception.ACCEPTED
        logger.warning("the webhook did not accept an alert: %s", cause)
        if status is not None and 400 <= status < 500 and status not in NOT_NOW:
            return Reception.REFUSED
        if pause is None or asked_for > LONGEST_PAUSE:
            break
        time.sleep(max(pause, asked_for))
    return Reception.FAILED


def _answer(url: SecretStr, document: dict[str, str]) -> tuple[int | None, str, float]:
    """Posts a document; returns the status or None, the cause of a failure without the URL, and the
    seconds of the answer's ``Retry-After``.

    Only the status is read: a body that hangs would make an accepted alert look like a lost one.
    """

    async def posted() -> tuple[int, str]:
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client,
            client.stream("POST", url.get_secret_value(), json=document) as answer,
        ):
            return answer.status_code, answer.headers.get("Retry-After", "")

    try:
        # In a thread, because the caller's may run an event loop.
        with ThreadPoolExecutor(1) as thread:
            status, asked_for = thread.submit(asyncio.run, posted()).result()
    except Exception as error:  # noqa: BLE001 (proxies, certificates and addresses fail in many ways)
        # Its text may contain the URL.
        return None, type(error).__name__, 0.0
    return status, f"status {status}", float(asked_for) if asked_for.isdecimal() else 0.0


def _dated(alert: Alert, now: datetime) -> dict[str, str]:
    """Returns the document to post; the text of a late alert names the time of its event."""
    text = alert.document["text"]
    if now - alert.at > LATE:
        text = f"{text} (late: of {alert.at:%Y-%m-%d %H:%M} UTC)"
    return {**alert.document, "text": text, "at": alert.at.isoformat(timespec="seconds")}


def post_test(url: SecretStr) -> str | None:
    """Posts a test message; returns the reason of a failure without the URL, None on success."""
    name = "a test of the webhook"
    document = {
        "text": f"{name}: Completed. Messages of runs arrive here.",
        "flow": "test",
        "run": name,
        "run_id": "",
        "state": "Completed",
        "state_type": "COMPLETED",
        "message": "Messages of runs arrive here.",
        "link": "",
    }
    status, cause, _ = _answer(url, document)
    if status is None:
        return f"{cause}; check the address, and whether this machine reaches it"
    if 200 <= status < 300:
        return None
    return f"the server answered {status}; check the path of the URL and its key"


def document_of(flow_name: str, flow_run: FlowRun, state: State) -> dict[str, str]:
    """Returns the posted document; Slack, Mattermost and similar tools show ``text``."""
    message = cause_of(state)
    link = f"{ui_url()}/runs/flow-run/{flow_run.id}"
    text = f"{flow_run.name}: {state.name}. {message} {link}".replace("  ", " ")
    return {
        "text": without_mentions(text),
        "flow": flow_name,
        "run": flow_run.name,
        "run_id": str(flow_run.id),
        "state": state.name or state.type.value.title(),
        "state_type": state.type.value,
        "message": message,
        "link": link,
    }


def cause_of(state: State) -> str:
    """Returns the first line of a state's message without Prefect's prefix. A fault of the machine
    is put first, because libraries describe a full disk in many ways."""
    line = without_credentials((state.message or "").partition("\n")[0].removeprefix(_PREFIX))
    fault = fault_in(line)
    return f"{fault}: {line}" if fault else line


def without_mentions(text: str) -> str:
    """Returns a text without mentions and masked links of chat tools: a dump folder named
    ``<!channel>`` would otherwise notify all members of a chat."""
    return _MENTIONS.sub(_harmless, text)


def _harmless(found: re.Match[str]) -> str:
    return "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}" if found[0] == "<" else "@\u200b"


def ui_url() -> str:
    """Returns the address of the Prefect UI in the settings."""
    configured = PREFECT_UI_URL.value() or PREFECT_API_URL.value() or ""
    return without_credentials(str(configured)).removesuffix("/").removesuffix("/api")


def webhook_url() -> SecretStr | None:
    """Returns the webhook's URL, None if none is configured.

    Raises:
        httpx.HTTPError: the Prefect server, which may hold it, does not answer.
    """
    if url := os.environ.get(WEBHOOK_VARIABLE, "").strip():
        return SecretStr(url)
    try:
        return SecretStr(str(cast(Secret[str], Secret.load(WEBHOOK_SECRET)).get()).strip())
    except ValueError:  # The block does not exist.
        return None
