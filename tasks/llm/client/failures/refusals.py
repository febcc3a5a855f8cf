"""Errors that end all requests, with remedies."""

from collections import Counter
from collections.abc import Iterable

from artifacts.ledger.answers import Role
from tasks.llm.client.failures.fault_kinds import PASSING, Fault, FaultKind
from tasks.llm.client.stop import EndpointDownError
from tasks.llm.settings.llm_config import EndpointSpec
from tasks.system.certificates import DISTRUSTED


class EndpointRefusedError(RuntimeError):
    """The endpoint refuses all requests: wrong key, unknown model, no credit, refused field."""


def refusal(fault: Fault, spec: EndpointSpec, where: str) -> EndpointRefusedError:
    """Returns the exception for a fault that concerns all prompts."""
    said = f"It said: {fault.words}"
    match fault.kind:
        case FaultKind.CREDIT:
            text = (
                f"{where} refuses requests: the account of {key_of(spec)} has no credit left. "
                f"Answers are kept; top it up and run again. {said}"
            )
        case FaultKind.MODEL:
            text = (
                f"{where} has no model {spec.model}; check the model's name and that "
                f"base_url ends in /v1. {said}"
            )
        case FaultKind.NO_API:
            text = (
                f"there is no API at this URL: {where}; check LLM4CDSR_CHAT_BASE_URL or "
                f"LLM4CDSR_EMBED_BASE_URL, which is the address up to /v1. {said}"
            )
        case FaultKind.CERTIFICATE:
            text = f"{where} {fault.kind.value}: {DISTRUSTED}. {said}"
        case FaultKind.FIELD:
            text = (
                f"{where} refuses the field {fault.field} of {_setting_of(spec)}; remove or "
                f"correct it. {said}"
            )
        case _:
            text = (
                f"{where} refuses the key or the model {spec.model}; check {key_of(spec)}. {said}"
            )
    return EndpointRefusedError(text)


def hopeless(met: Iterable[Fault], spec: EndpointSpec, where: str) -> Exception:
    """Returns the exception if none of the first requests had a usable answer."""
    kinds = Counter((fault.kind, fault.words) for fault in met)
    (kind, words), most = kinds.most_common(1)[0]
    asked = kinds.total()
    alike = f"all {asked}" if most == asked else f"{most} of {asked}"
    text = (
        f"{spec.model} at {where} gave no usable answer to the first {asked} requests; {alike}: "
        f"{kind.value}: {words}"
    )
    if kind in PASSING:
        return EndpointDownError(f"{text}. Run again when the server works")
    advice = f"{_setting_of(spec)} adds or replaces fields of the request (docs/providers.md)"
    if kind is FaultKind.TOO_LONG:
        advice = "use a model with a longer context, or shorter texts"
    return EndpointRefusedError(
        f"{text}. The other prompts would fail too and were not sent; {advice}"
    )


def key_of(spec: EndpointSpec) -> str:
    """Returns the origin of the key as text."""
    if spec.key_secret:
        return f"the Prefect Secret block {spec.key_secret}"
    return spec.key_variable or "the key"


def _setting_of(spec: EndpointSpec) -> str:
    return f"LLM4CDSR_{'CHAT' if spec.role is Role.CHAT else 'EMBED'}_PARAMETERS"
