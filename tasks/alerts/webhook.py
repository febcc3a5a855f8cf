"""Tells a URL of yours how a run ended: one JSON document a run, in a form that chat tools show.

The URL is a secret (those of chat tools hold their key in the path): it comes from
``LLM4CDSR_WEBHOOK_URL`` or the Prefect Secret block ``llm4cdsr-webhook-url``, and no log, state
or artifact ever holds it. A webhook that does not answer never changes how a run ends.
"""

import logging
import os
from typing import Any, cast

import httpx
from prefect.blocks.system import Secret
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL
from pydantic import SecretStr
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from artifacts.remote.url_credentials import without_credentials

WEBHOOK_VARIABLE = "LLM4CDSR_WEBHOOK_URL"
WEBHOOK_SECRET = "llm4cdsr-webhook-url"
TIMEOUT_SECONDS = 5.0
TRIES = 3

logger = logging.getLogger("llm4cdsr")

AnyFlow = Flow[..., Any]  # pyright: ignore[reportExplicitAny]
"""Prefect hands a hook the flow whose run ended, of whatever signature."""


def tell_webhook(flow: AnyFlow, flow_run: FlowRun, state: State) -> None:
    """A state hook of flows: posts how the run ended."""
    tell(flow.name, flow_run, state)


def tell(flow_name: str, flow_run: FlowRun, state: State) -> bool:
    """Posts how a run of a flow ended; returns False where the webhook could not be told.

    Runs inside another run are not told of.
    """
    if flow_run.parent_task_run_id is not None:
        return True
    url = webhook_url()
    if url is None:
        return True
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(httpx.HTTPError),
            stop=stop_after_attempt(TRIES),
            wait=wait_exponential(multiplier=0.5, max=5),
            reraise=True,
        ):
            with attempt:
                document = document_of(flow_name, flow_run, state)
                answer = httpx.post(url.get_secret_value(), json=document, timeout=TIMEOUT_SECONDS)
                answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Its text may hold the URL.
        logger.warning("the webhook could not be told: %s", type(error).__name__)
        return False
    return True


def post_test(url: SecretStr) -> str | None:
    """Posts a message of the usual form; returns why it was not taken, without the URL."""
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
    """Returns what is posted; ``text`` is what Slack, Mattermost and their like show."""
    message = without_credentials((state.message or "").partition("\n")[0])
    link = f"{ui_url()}/runs/flow-run/{flow_run.id}"
    text = f"{flow_run.name}: {state.name}. {message} {link}".replace("  ", " ")
    return {
        "text": text,
        "flow": flow_name,
        "run": flow_run.name,
        "run_id": str(flow_run.id),
        "state": state.name or state.type.value.title(),
        "state_type": state.type.value,
        "message": message,
        "link": link,
    }


def ui_url() -> str:
    """Returns where the Prefect UI is, as far as the settings tell."""
    configured = PREFECT_UI_URL.value() or PREFECT_API_URL.value() or ""
    return without_credentials(str(configured)).removesuffix("/").removesuffix("/api")


def webhook_url() -> SecretStr | None:
    """Returns the URL to tell, or None where none is configured."""
    if url := os.environ.get(WEBHOOK_VARIABLE):
        return SecretStr(url)
    try:
        return SecretStr(str(cast(Secret[str], Secret.load(WEBHOOK_SECRET)).get()))
    except ValueError:  # There is no such block.
        return None
