"""Checks of LLM endpoints and the Prefect API, without paid requests."""

import base64
import os
from collections.abc import Iterator
from datetime import timedelta

import httpx
from pydantic import ValidationError

from artifacts.ledger.answers import Role
from artifacts.store import Store
from artifacts.user_error import InvalidSettingError
from flows.cli.diagnosis.environment_checks import clock_against
from flows.cli.diagnosis.finding import Finding, error, ok, warning
from flows.settings import Settings, default_llm
from prompts.render import one_line
from tasks.llm.client.failures.fault_kinds import READ_CHARACTERS, REASON_CHARACTERS
from tasks.llm.client.servers.small_answer import SmallAnswer, small_answer
from tasks.llm.providers.destinations import destination
from tasks.llm.providers.endpoints import DEFAULT_MODELS, resolve_provider
from tasks.llm.providers.local_setup import find_local_environment
from tasks.llm.settings.llm_config import (
    OPENAI_KEY_VARIABLE,
    OWN_KEY_VARIABLE,
    LlmConfig,
    Provider,
    key_in,
)
from tasks.llm.settings.urls import address, shown_url
from tasks.system.certificates import DISTRUSTED, is_distrust

ANSWER_TIME = timedelta(seconds=10)


def endpoints(settings: Settings) -> Iterator[Finding]:
    """Yields findings about each endpoint: reachable, model known, key accepted."""
    try:
        config = default_llm(settings)
    except ValidationError as faults:
        for fault in faults.errors():
            said = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            yield error("endpoints", said, "correct the variable (docs/providers.md)")
        return
    for role in Role:
        one = config.of(role)
        provider = resolve_provider(config, one.base_url)
        check = f"{role} endpoint"
        match provider:
            case Provider.DUMMY:
                yield warning(
                    check, "the dummy is used: no language model", "--provider, or the variables"
                )
            case Provider.LOCAL:
                yield _local(check, settings)
            case _:
                model = one.model or DEFAULT_MODELS.get((provider, role))
                yield ok(check, destination(role, config, provider).text)
                for url in (one.base_url or "").split(","):
                    yield from _server(check, config, url.strip() or None, model)


def prefect(store: Store) -> Iterator[Finding]:
    """Yields a finding about the reachability of the Prefect server."""
    from flows.server.machine import SERVICES, Machine

    if store.local.is_dir() and (before := Machine(store).remembered()) is not None:
        running = Machine(store).running()
        dead = [name for name in SERVICES if name not in running]
        if dead:
            found = f"{' and '.join(dead)} of `up` (port {before.port}) died"
            yield error("prefect", found, "run `llm4cdsr up`")
        else:
            yield ok("prefect", f"server and worker of `up` run on port {before.port}")
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        yield ok("prefect", "no PREFECT_API_URL: a run starts its own server")
        return
    credential = os.environ.get("PREFECT_API_AUTH_STRING", "")
    login = base64.b64encode(credential.encode()).decode()
    headers = {"Authorization": f"Basic {login}"} if ":" in credential else {}
    shown = shown_url(url)
    try:
        answer = small_answer(f"{url.rstrip('/')}/admin/version", headers, ANSWER_TIME)
    except (httpx.HTTPError, httpx.InvalidURL) as fault:
        remedy = "start it, correct PREFECT_API_URL, or unset it: a run then starts its own server"
        yield error("prefect", f"{shown} does not answer ({type(fault).__name__})", remedy)
        return
    if answer.status in (401, 403):
        yield error("prefect", f"{shown} refuses the login", "set PREFECT_API_AUTH_STRING")
    elif answer.status >= 400:
        found = f"{shown} answers with status {answer.status}"
        yield error("prefect", found, "PREFECT_API_URL ends in /api of a Prefect server")
    else:
        version = one_line(answer.content[:READ_CHARACTERS].decode(errors="replace"), 40)
        yield ok("prefect", f"{shown} answers, version {version}")
    yield from clock_against(shown, answer.headers.get("date"))


def _local(check: str, settings: Settings) -> Finding:
    if find_local_environment(settings.local_vllm) is None:
        found = f"the local vLLM pair is not installed in {settings.local_vllm}"
        return warning(check, found, "`llm4cdsr setup-local` installs it now, or the first run")
    return ok(check, f"the local vLLM pair in {settings.local_vllm}")


def _server(check: str, config: LlmConfig, url: str | None, model: str | None) -> Iterator[Finding]:
    variable = OPENAI_KEY_VARIABLE if url is None else OWN_KEY_VARIABLE
    target = address(url, "/models")
    shown = shown_url(target)
    try:
        key = key_in(variable)
    except InvalidSettingError as fault:
        yield error(check, str(fault), f"set {variable} again")
        return
    if url is None and not key and config.api_key_secret is None:
        yield error(check, f"{variable} is not set", "set it, or name a server of your own")
        return
    headers = {"Authorization": f"Bearer {key}", "api-key": key} if key else {}
    try:
        answer = small_answer(target, headers, ANSWER_TIME)
    except (httpx.HTTPError, httpx.InvalidURL) as fault:
        remedy = "start the server, or correct its URL (docs/providers.md)"
        if is_distrust(fault):
            yield error(check, f"the certificate of {shown} is not trusted", DISTRUSTED)
            return
        yield error(check, f"{shown} does not answer ({type(fault).__name__})", remedy)
        return
    yield from clock_against(shown, answer.headers.get("date"))
    if answer.status in (401, 403):
        known = "is refused" if key else "is not set"
        yield error(check, f"{shown} answers, and {variable} {known}", f"set {variable} anew")
    elif answer.status >= 400:
        found = f"{shown} answers with status {answer.status}: it lists no models"
        yield warning(check, found, "test it by `llm4cdsr run --profile-users 1`")
    elif model is not None and model not in (listed := _models(answer)):
        names = one_line(", ".join(listed[:5]), REASON_CHARACTERS)
        found = f"{shown} answers and does not list {model}; it has {names}"
        yield error(check, found, "correct LLM4CDSR_CHAT_MODEL or LLM4CDSR_EMBED_MODEL")
    else:
        yield ok(check, f"{shown} answers and lists {model}; key {'set' if key else 'not set'}")


def _models(answer: SmallAnswer) -> list[str]:
    try:
        found = answer.json()
    except ValueError:
        return []
    listed = found.get("data") if isinstance(found, dict) else None
    entries = listed if isinstance(listed, list) else []
    names = (each.get("id") for each in entries if isinstance(each, dict))
    return [name for name in names if isinstance(name, str)]
