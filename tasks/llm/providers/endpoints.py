"""Selection of the LLM provider, and lazy start of local servers.

Names and parameters of an endpoint are known immediately (they identify artifacts and ledger keys),
the URL on first use. A run without new prompts therefore starts no server.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from pydantic import JsonValue

from artifacts.ledger.answers import Role
from artifacts.user_error import UserError
from tasks.llm.client.stop import allow_asking, stop_asking
from tasks.llm.providers import dummy_models
from tasks.llm.providers.destinations import destination
from tasks.llm.providers.local_setup import (
    CHAT_MODEL_NAME,
    EMBEDDING_MODEL_NAME,
    ensure_local_environment,
)
from tasks.llm.providers.local_vllm import LocalVllm, LocalVllmSettings
from tasks.llm.settings.batch_config import BatchStart
from tasks.llm.settings.budget import FREE, Price, Spending, UnusableBudgetError, price_of
from tasks.llm.settings.llm_config import (
    OPENAI_KEY_VARIABLE,
    OWN_KEY_VARIABLE,
    PACE,
    ChatConfig,
    EmbeddingConfig,
    EndpointSpec,
    LlmConfig,
    Provider,
    key_in,
    no_key,
)
from tasks.llm.settings.request_fields import deciding

DEFAULT_MODELS = {
    (Provider.LOCAL, Role.CHAT): CHAT_MODEL_NAME,
    (Provider.LOCAL, Role.EMBEDDING): EMBEDDING_MODEL_NAME,
    (Provider.DUMMY, Role.CHAT): dummy_models.CHAT_MODEL,
    (Provider.DUMMY, Role.EMBEDDING): dummy_models.EMBEDDING_MODEL,
    (Provider.OPENAI, Role.CHAT): "gpt-4o-mini",
    (Provider.OPENAI, Role.EMBEDDING): "text-embedding-3-small",
}

LOCAL_CHAT_PARAMETERS: dict[str, JsonValue] = {"frequency_penalty": 0.6}
"""Prevents repetitions of a 135 M model. vLLM's repetition_penalty also penalises words of the
prompt, which misspells brand names."""

LOCAL_EMBEDDING_PARAMETERS: dict[str, JsonValue] = {"truncate_prompt_tokens": 256}
"""All-MiniLM-L6-v2 has a context of 256 tokens; vLLM refuses longer texts without this
truncation."""

DUMMY_NOTE = "made with the dummy endpoint: text and vectors are not from a language model"

logger = logging.getLogger("llm4cdsr")


class IncompleteEndpointError(UserError, ValueError):
    """A URL is configured without a model name."""


class EndpointElsewhereError(RuntimeError):
    """The URL of an endpoint was requested in another process."""


class Endpoint:
    """One model: name and parameters; `spec` makes it reachable.

    ``parameters`` affect answers, so they are part of ledger keys. ``spending`` is shared by the
    run's endpoints; ``price`` is None if unknown. ``batch_start``: command of a local model for
    files of prompts; None if configured.

    Not a dataclass: fields of dataclasses are serialised for Ray's workers, including the lock
    of the spending, which cannot be pickled.
    """

    def __init__(
        self,
        model: str,
        parameters: dict[str, JsonValue],
        notes: tuple[str, ...],
        spec: Callable[[], EndpointSpec],
        price: Price | None = None,
        spending: Spending | None = None,
        batch_start: Callable[[], BatchStart] | None = None,
    ) -> None:
        self.model = model
        self.parameters = parameters
        self.notes = notes
        self.spec = spec
        self.price = price
        self.spending = spending or Spending()
        self.batch_start = batch_start

    def __reduce__(self) -> tuple[object, ...]:
        """Serialises the names only: servers and spending stay in the run's process, and shards
        have their own `EndpointSpec`."""
        return Endpoint, (self.model, self.parameters, self.notes, _not_here, self.price)


@dataclass(frozen=True)
class Endpoints:
    """The two models of a run."""

    chat: Endpoint
    embedding: Endpoint


def require_usable(role: Role, config: LlmConfig) -> None:
    """Raises what `open_endpoints` and the first prompt would: a model, a price or OpenAI's key
    is missing. A key in a Prefect Secret block is looked at later: that needs Prefect."""
    provider, settings, model, _ = _chosen(role, config)
    variable = _key_variable(provider, settings.base_url)
    if variable == OPENAI_KEY_VARIABLE and config.api_key_secret is None and not key_in(variable):
        raise no_key(model)


UrlOf = Callable[[Role], str | None]


@contextmanager
def open_endpoints(
    config: LlmConfig, local_directory: Path, log_directory: Path
) -> Iterator[Endpoints]:
    """Yields the endpoints of a run; started servers are stopped at the end of the block.

    Raises:
        IncompleteEndpointError: a URL is configured without a model name.
        UnusableBudgetError: a limit in USD for a model without a price.
    """
    for role in Role:
        told = destination(role, config, resolve_provider(config, config.of(role).base_url))
        logger.info(told.text)
        if told.is_mixed:
            logger.warning(
                "the server comes from a file of the working folder, the key does not: interrupt "
                "if you did not write the file"
            )
    allow_asking()
    spending = Spending(config.budget)
    pair = local_pair(local_directory, log_directory, config.local_gpu_python)
    with ExitStack() as stack:
        stack.callback(pair.stop)

        def local_url(role: Role) -> str:
            if not pair.started:
                pair.start()  # Starts both: they load in parallel, and refreshes use both.
            return pair.base_url(role)

        @cache
        def dummy_url() -> str:
            # Imports a web framework, which only the dummy needs.
            from tasks.llm.providers.dummy_endpoint import running_dummy_endpoint

            return stack.enter_context(running_dummy_endpoint()).base_url

        url_of: dict[Provider, UrlOf] = {
            Provider.LOCAL: local_url,
            Provider.DUMMY: lambda role: dummy_url(),
            Provider.OPENAI: lambda role: None,
        }
        batches = {Provider.LOCAL: pair.batch_start}
        chat, embedding = (_endpoint(role, config, url_of, batches, spending) for role in Role)
        try:
            yield Endpoints(chat, embedding)
        finally:
            stop_asking()


def resolve_provider(config: LlmConfig, base_url: str | None) -> Provider:
    """Returns the provider of a role: as configured, else OpenAI if a URL or key is set, else the
    local servers."""
    if config.provider is not Provider.AUTO:
        return config.provider
    if base_url or config.api_key_secret or key_in(OPENAI_KEY_VARIABLE):
        return Provider.OPENAI
    return Provider.LOCAL


def local_pair(directory: Path, log_directory: Path, gpu_python: Path | None) -> LocalVllm:
    """Returns the local servers, not started; their environment is installed on start."""
    return LocalVllm(
        lambda: ensure_local_environment(directory, report=logger.info),
        log_directory,
        report=logger.info,
        settings=LocalVllmSettings(gpu_python=gpu_python),
        on_lost=stop_asking,
    )


def _endpoint(
    role: Role,
    config: LlmConfig,
    url_of: dict[Provider, UrlOf],
    batches: dict[Provider, Callable[[Role], BatchStart]],
    spending: Spending,
) -> Endpoint:
    provider, settings, model, price = _chosen(role, config)
    parameters = _parameters(provider, settings) | settings.parameters

    def spec() -> EndpointSpec:
        return EndpointSpec(
            base_url=settings.base_url or url_of[provider](role),
            model=model,
            max_retries=config.max_retries,
            **settings.model_dump(include={*PACE, "batch_size"}),
            outage_seconds=60 * config.outage_minutes,
            price=price,
            key_variable=_key_variable(provider, settings.base_url),
            key_secret=config.api_key_secret if provider is Provider.OPENAI else None,
            parameters=parameters,
            fixed_fields=tuple(settings.parameters),
            role=role,
        )

    dummies = (dummy_models.CHAT_MODEL, dummy_models.EMBEDDING_MODEL)
    notes = (DUMMY_NOTE,) if model in dummies else ()
    in_batches = batches.get(provider)
    return Endpoint(
        model,
        deciding(parameters),
        notes,
        spec,
        price,
        spending,
        in_batches and partial(in_batches, role),
    )


def _chosen(
    role: Role, config: LlmConfig
) -> tuple[Provider, ChatConfig | EmbeddingConfig, str, Price | None]:
    """Returns provider, settings, model and price of an endpoint."""
    settings = config.of(role)
    provider = resolve_provider(config, settings.base_url)
    if provider in (Provider.LOCAL, Provider.DUMMY):
        # Explicitly selected: URLs configured for other providers are ignored.
        settings = settings.model_copy(update={"base_url": None, "model": None, "parameters": {}})
    model = settings.model or DEFAULT_MODELS[provider, role]
    if settings.base_url and not settings.model:
        variable = "LLM4CDSR_CHAT_MODEL" if role is Role.CHAT else "LLM4CDSR_EMBED_MODEL"
        one = settings.base_url.partition(",")[0].strip()
        raise IncompleteEndpointError(
            f"{settings.base_url} is configured without a model: set {variable} to one that "
            f"GET {one}/models lists"
        )
    is_ours = provider in (Provider.LOCAL, Provider.DUMMY)
    price = FREE if is_ours else price_of(model, config.prices)
    if price is None and config.budget.max_usd is not None:
        raise UnusableBudgetError(
            f"the price of {model} is not known, so max_usd would not limit it; set "
            f'LLM4CDSR_PRICES=\'{{"{model}": {{"prompt": 0.5, "completion": 1.5}}}}\' (USD per '
            "million tokens), or limit max_tokens instead"
        )
    return provider, settings, model, price


def _not_here() -> EndpointSpec:
    raise EndpointElsewhereError(
        "this is a copy of an endpoint; call `spec` in the run's process and pass its result"
    )


def _parameters(provider: Provider, settings: ChatConfig | EmbeddingConfig) -> dict[str, JsonValue]:
    is_local = provider is Provider.LOCAL
    if isinstance(settings, EmbeddingConfig):
        return dict(LOCAL_EMBEDDING_PARAMETERS) if is_local else {}
    return {"temperature": settings.temperature, **(LOCAL_CHAT_PARAMETERS if is_local else {})}


def _key_variable(provider: Provider, base_url: str | None) -> str | None:
    if provider is not Provider.OPENAI:
        return None
    return OPENAI_KEY_VARIABLE if base_url is None else OWN_KEY_VARIABLE
