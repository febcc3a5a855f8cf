"""Webhook messages about the end of runs, in JSON for chat tools.

The URL is a secret (chat tools have their key in the path): it comes from ``LLM4CDSR_WEBHOOK_URL``
or the Prefect Secret block ``llm4cdsr-webhook-url``, and is in no log, state or artifact. A failing
webhook does not change the end of a run; its alerts wait on disk (`outbox`).
"""

import logging
import os
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
from prefect.blocks.system import Secret
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL
from pydantic import SecretStr
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from artifacts.remote.url_credentials import without_credentials
from artifacts.store import Store
from tasks.alerts.outbox import FOLDER, Alert, RefusedError, deliver, put, waiting
from tasks.system.machine_errors import fault_in

WEBHOOK_VARIABLE = "LLM4CDSR_WEBHOOK_URL"
WEBHOOK_SECRET = "llm4cdsr-webhook-url"
_ORDERS = re.compile(r"<(?=[!@#]|\w+:)|@(?=(?:channel|here|everyone|all)\b)")
_PREFIX = "Flow run encountered an exception: "
TIMEOUT_SECONDS = 5.0
TRIES = 3
LATE = timedelta(minutes=2)
"""A text that is posted so long after its event names the time of the event."""

logger = logging.getLogger("llm4cdsr")

AnyFlow = Flow[..., Any]  # pyright: ignore[reportExplicitAny]
"""Prefect passes the flow of the run, with any signature, to a hook."""


def tell(store: Store, flow_name: str, flow_run: FlowRun, state: State) -> bool:
    """Posts the end of a flow run, after earlier alerts that wait in the store; returns False if it
    was neither accepted nor kept for later.

    Subflow runs are not reported.
    """
    if flow_run.parent_task_run_id is not None:
        return True
    return tell_alert(
        store, Alert(at=state.timestamp, document=document_of(flow_name, flow_run, state))
    )


def tell_alert(store: Store, alert: Alert) -> bool:
    """As `tell`, for any alert."""
    url = webhook_url()
    if url is None:
        return True
    try:
        put(store, alert)
    except OSError as error:
        logger.warning("an alert cannot be kept for later (%s); it is posted once", error)
        with suppress(RefusedError):
            return _post(url, alert, TRIES)
        return False
    _deliver(store, url, TRIES)
    return True


def tell_waiting(store: Store) -> None:
    """Posts the alerts that the webhook did not accept before, until it fails once."""
    if waiting(store) and (url := webhook_url()) is not None:
        _deliver(store, url, tries=1)


def _deliver(store: Store, url: SecretStr, tries: int) -> None:
    try:
        deliver(store, lambda alert: _post(url, alert, tries))
    except OSError as error:
        logger.warning("alerts wait in %s: %s", store.local / FOLDER, error)


def _post(url: SecretStr, alert: Alert, tries: int) -> bool:
    """Posts an alert; returns whether it was accepted.

    Raises:
        RefusedError.
    """
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(httpx.HTTPError),
            stop=stop_after_attempt(tries),
            wait=wait_exponential(multiplier=0.5, max=5),
            reraise=True,
        ):
            with attempt:
                document = _dated(alert, datetime.now(UTC))
                answer = httpx.post(url.get_secret_value(), json=document, timeout=TIMEOUT_SECONDS)
                answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Its text may contain the URL.
        is_status = isinstance(error, httpx.HTTPStatusError)
        cause = f"status {error.response.status_code}" if is_status else type(error).__name__
        logger.warning("the webhook could not be told: %s; the alert is posted later", cause)
        if is_status and error.response.is_client_error:
            raise RefusedError from None
        return False
    return True


def _dated(alert: Alert, now: datetime) -> dict[str, str]:
    """Returns the document to post, which tells the time of a late alert."""
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
    try:
        answer = httpx.post(url.get_secret_value(), json=document, timeout=TIMEOUT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        return f"{type(error).__name__}; check the address, and whether this machine reaches it"
    if answer.is_success:
        return None
    return f"the server answered {answer.status_code}; check the path of the URL and its key"


def document_of(flow_name: str, flow_run: FlowRun, state: State) -> dict[str, str]:
    """Returns the posted document; Slack, Mattermost and similar tools show ``text``."""
    message = cause_of(state)
    link = f"{ui_url()}/runs/flow-run/{flow_run.id}"
    text = f"{flow_run.name}: {state.name}. {message} {link}".replace("  ", " ")
    return {
        "text": without_orders(text),
        "flow": flow_name,
        "run": flow_run.name,
        "run_id": str(flow_run.id),
        "state": state.name or state.type.value.title(),
        "state_type": state.type.value,
        "message": message,
        "link": link,
    }


def cause_of(state: State) -> str:
    """Returns the first line of a state's message, without Prefect's words in front of an error; a
    fault of the machine comes first, because libraries have many words for a full disk."""
    line = without_credentials((state.message or "").partition("\n")[0].removeprefix(_PREFIX))
    fault = fault_in(line)
    return f"{fault}: {line}" if fault else line


def without_orders(text: str) -> str:
    """Returns a text in which chat tools find no mention and no link with another's words: a folder
    of a dump named ``<!channel>`` would else call everybody."""
    return _ORDERS.sub(_harmless, text)


def _harmless(found: re.Match[str]) -> str:
    return "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}" if found[0] == "<" else "@\u200b"


def ui_url() -> str:
    """Returns the address of the Prefect UI in the settings."""
    configured = PREFECT_UI_URL.value() or PREFECT_API_URL.value() or ""
    return without_credentials(str(configured)).removesuffix("/").removesuffix("/api")


def webhook_url() -> SecretStr | None:
    """Returns the webhook's URL, None if none is configured."""
    if url := os.environ.get(WEBHOOK_VARIABLE):
        return SecretStr(url)
    try:
        return SecretStr(str(cast(Secret[str], Secret.load(WEBHOOK_SECRET)).get()))
    except ValueError:  # The block does not exist.
        return None
