"""Messages and exit statuses of errors that end a command.

2: the input or the settings are wrong; a retry does not help. 1: another failure; LLM answers are
kept. 3: the budget is reached; run again to continue.
"""

from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from artifacts.user_error import UserError
from flows.cli.errors.machine_faults import machine_fault
from model.config import ModelInputError
from prompts.render import one_line
from tasks.llm.settings.budget import BudgetReachedError
from tasks.system.dot_env import PREFIX
from tasks.system.proxies import UnusableProxyError
from tasks.system.working_folder import ForeignSettingsError

FAILED = 1
BAD_INPUT = 2
OVER_BUDGET = 3

PREFECT_ERROR = "prefect.exceptions.PrefectException"
PREFECT_STATUS = "prefect.exceptions.PrefectHTTPStatusError"
PREFECT_TIMEOUT = "prefect.flow_engine.FlowRunTimeoutError"
TRANSPORT_ERROR = "httpx.TransportError"
"""Errors of Prefect's client only: clients of endpoints and of the webhook catch their own."""

S3_ERROR = "botocore.exceptions.BotoCoreError"
S3_WORDS = 200
"""Maximum number of characters of an S3 error; some end in the pattern of all valid names."""

VARIABLES = {
    "Settings": PREFIX,
    "OperatingSettings": PREFIX,
    "LlmConfig": PREFIX,
    "ChatConfig": f"{PREFIX}CHAT_",
    "EmbeddingConfig": f"{PREFIX}EMBED_",
}
"""Prefixes of environment variables by settings class."""

ROOMS = frozenset({"flows", "tasks", "model", "prompts", "artifacts"})
INPUT_ERRORS = (UserError, ModelInputError, UnusableProxyError, ForeignSettingsError)
"""Errors that a retry cannot fix. Packages that import no other have their own base classes."""


@dataclass(frozen=True)
class Ending:
    """Final message and exit status; ``text`` is printed literally."""

    label: str
    text: str
    status: int


def ending_of(error: BaseException) -> Ending | None:
    """Returns the message and exit status of an error; None if its traceback is to be shown."""
    match error:
        case ValidationError():
            faults = [_fault(error.title, at) for at in error.errors()]
            return Ending("Not valid:", "; ".join(faults), BAD_INPUT)
        case SettingsError():
            field = str(error).partition('"')[2].partition('"')[0]
            text = f"{PREFIX}{field.upper()} is not JSON; docs/settings.md shows its form"
            return Ending("Not valid:", text, BAD_INPUT)
        case _ if PREFECT_TIMEOUT in _names_of(error):
            text = (
                "the run took longer than LLM4CDSR_FLOW_TIMEOUT_HOURS and was ended. Answers "
                "are kept; run again to resume, with a higher limit if needed"
            )
            return Ending("Failed:", text, FAILED)
        case _ if not _is_ours(error) and (fault := machine_fault(error)):
            return Ending("Failed:", fault, FAILED)
        case OSError():
            text = f"{error}; check the path, its permissions and the disk"
            return Ending("Failed:", text, FAILED)
        case _ if PREFECT_STATUS in _names_of(error):
            return _of_prefects_answer(error)
        case BudgetReachedError():
            return Ending("Stopped:", _message(error), OVER_BUDGET)
        case _ if _is_of_prefect(error):
            text = (
                f"a request to the Prefect API failed ({type(error).__name__}: {error}). Answers "
                "are kept; see work/logs/prefect-server.log in the store, or check "
                "PREFECT_API_URL, and run again"
            )
            return Ending("Failed:", text, FAILED)
        case _ if S3_ERROR in _names_of(error):
            text = (
                f"S3 cannot be used ({one_line(str(error), S3_WORDS)}); check the URL, "
                "AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
            return Ending("Failed:", text, BAD_INPUT)
        case _ if _is_ours(error):
            return Ending("Failed:", _message(error), status_of(error))
        case _:
            return None


def _of_prefects_answer(error: BaseException) -> Ending:
    import httpx  # The library is loaded if it raised the error; other commands do not import it.

    assert isinstance(error, httpx.HTTPStatusError)
    answer = error.response
    said = f"{answer.request.method} {answer.request.url.path}: {answer.status_code}"
    if answer.status_code in (401, 403):
        text = (
            f"the Prefect API refuses the login ({said}); set PREFECT_API_AUTH_STRING, or "
            "PREFECT_API_KEY, to that of the server at PREFECT_API_URL"
        )
        return Ending("Not allowed:", text, BAD_INPUT)
    text = (
        f"the Prefect API refused a request ({said}: {answer.text[:300]}). Answers are "
        "kept; see work/logs/prefect-server.log in the store, or check PREFECT_API_URL"
    )
    return Ending("Failed:", text, FAILED)


def _fault(title: str, at: ErrorDetails) -> str:
    """Returns the invalid field and the cause; a setting is named by its variable."""
    name = ".".join(map(str, at["loc"]))
    said = at["msg"].removeprefix("Value error, ")
    if name == "base_url" and at["type"] == "string_pattern_mismatch":
        said = "write http://HOST:PORT/v1; several of one model, separated by commas"
    if title in VARIABLES and name:
        name = f"{VARIABLES[title]}{name.upper()}"
    return f"{name}: {said}" if name else said


def status_of(error: BaseException) -> int:
    """Returns the exit status of a product error."""
    return BAD_INPUT if isinstance(error, INPUT_ERRORS) else FAILED


def _is_of_prefect(error: BaseException) -> bool:
    """Includes an unreachable API, for which Prefect raises a plain RuntimeError."""
    is_plain = type(error) is RuntimeError and isinstance(error.__cause__, Exception)
    names = _names_of(error) | (_names_of(error.__cause__) if is_plain else set())
    return not names.isdisjoint((PREFECT_ERROR, TRANSPORT_ERROR))


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in ROOMS


def _names_of(error: BaseException | None) -> set[str]:
    return {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}


def _message(error: BaseException) -> str:
    """Returns the message text; ``str`` of a KeyError would quote it."""
    return str(error.args[0]) if error.args else type(error).__name__
