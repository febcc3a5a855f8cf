"""Cost estimate of a refresh without sending prompts: `llm4cdsr run --dry-run`.

Stages without LLM requests are executed, and their artifacts are kept for the run. Prompts are
rendered and looked up in the ledger, so the number of calls of a step is exact if all earlier steps
are answered; otherwise it is marked as an upper bound.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from artifacts import columns as col
from artifacts.kinds.clusters import read_clusters
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.ledger.answers import Role
from artifacts.ledger.shared import open_ledger
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from flows.refresh import RefreshConfig
from flows.settings import Settings
from prompts.profile_style import ProfileStyle
from prompts.render import (
    MAX_TITLES,
    analyze_prompt,
    cross_prompt,
    name_cluster_prompt,
    summarize_prompt,
)
from tasks.cluster import cluster_items
from tasks.cross_domains import (
    ANSWER_TOKENS,
    SOLD_SHOWN,
    cross_questions,
    crossings_identity,
)
from tasks.cross_domains import STAGE as CROSSING
from tasks.cross_domains import TITLES_SHOWN as CROSSED_TITLES
from tasks.dump.dump_config import DumpConfig
from tasks.embed import embed_items, embeddings_identity, item_texts
from tasks.ingest import ingest
from tasks.llm.answer_all import PROMPT, chat_keys, embedding_keys
from tasks.llm.providers.endpoints import Endpoint, Endpoints, open_endpoints
from tasks.llm.providers.token_counts import ESTIMATED, TokenRate, token_rate
from tasks.llm.settings.budget import FREE
from tasks.llm.settings.llm_config import LlmConfig
from tasks.name_clusters import (
    NAME_TOKENS,
    TITLES_SHOWN,
    name_questions,
    names_identity,
)
from tasks.name_clusters import STAGE as NAMING
from tasks.profile import profiles_identity, sampled_users
from tasks.profiling.interest_titles import titles_by_interest


@dataclass(frozen=True)
class PlannedCalls:
    """One step: its distinct prompts, the number in the ledger, and the maximum cost of the others.

    ``usd`` is None if the model's price is unknown. ``is_exact`` refers to the number of calls.
    """

    step: str
    prompts: int
    reused: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    is_exact: bool
    tokens_how: str


def plan_refresh(
    dump: DumpConfig, config: RefreshConfig, llm: LlmConfig, store: str
) -> tuple[PlannedCalls, ...]:
    """Returns the LLM steps of a refresh without sending prompts."""
    opened = Store(store)
    with open_endpoints(llm, Settings().local_vllm, opened.workspace("logs")) as endpoints:
        dataset = ingest.fn(dump, store).ref
        items = _plan_items(opened, dataset, endpoints.embedding, llm)
        if items.requests:
            profiles = _bounded_profiles(opened, dataset, endpoints, llm, config)
            names = _bounded_names(endpoints, llm, config)
            crossings = _bounded_crossings(opened, dataset, endpoints, llm, config)
            return (items, *profiles, *names, *crossings)
        embeddings = embed_items.fn(dataset, endpoints.embedding, llm, store).ref
        clusters = cluster_items.fn(embeddings, config.clusters, store).ref
        names = (
            *_names(opened, dataset, clusters, endpoints, llm, config),
            *_crossings(opened, dataset, clusters, endpoints, llm, config),
        )
        wanted = profiles_identity(dataset, clusters, endpoints, llm, config.profiles)
        if found := opened.find(wanted):
            profiles = opened.manifest(found).counts
            return (items, _nothing("profile users", int(profiles["with_profile"])), *names)
        return (items, *_profiles(opened, dataset, clusters, endpoints, llm, config), *names)


def _plan_items(
    store: Store, dataset: ArtifactRef, endpoint: Endpoint, llm: LlmConfig
) -> PlannedCalls:
    items = read_dataset(store, dataset).items
    if store.find(embeddings_identity(dataset, endpoint, llm)):
        return _nothing("embed items", items.height)
    texts = item_texts(items, llm.language).filter(pl.col(PROMPT) != "")[PROMPT].to_list()
    keyed = embedding_keys(texts, endpoint)
    return _planned("embed items", Role.EMBEDDING, keyed, endpoint, llm, store)


def _profiles(
    store: Store,
    dataset: ArtifactRef,
    clusters: ArtifactRef,
    endpoints: Endpoints,
    llm: LlmConfig,
    config: RefreshConfig,
) -> Iterable[PlannedCalls]:
    """Returns the analyses exactly; summaries and embeddings exactly if all analyses are
    answered."""
    data, style = read_dataset(store, dataset), config.profiles.style
    titles = _titles_of_sample(data, read_clusters(store, clusters), config)
    prompts = [analyze_prompt(row, llm.language, style) for row in titles["titles"].to_list()]
    keyed = chat_keys(prompts, endpoints.chat, llm.chat.analyze_tokens)
    yield _planned(
        "analyze interests", Role.CHAT, keyed, endpoints.chat, llm, store, llm.chat.analyze_tokens
    )
    interests = titles.group_by(col.USER_INDEX).len()["len"].to_list()
    yield from _bounded_summaries(interests, style, endpoints, llm)


def _titles_of_sample(data: Dataset, clusters: pl.DataFrame, config: RefreshConfig) -> pl.DataFrame:
    """Returns the titles by interest of the users to profile."""
    titles = titles_by_interest(data, clusters)
    sample = sampled_users(data, titles, config.profiles)
    return titles.join(sample, on=col.USER_INDEX, how="semi")


def _bounded_profiles(
    store: Store, dataset: ArtifactRef, endpoints: Endpoints, llm: LlmConfig, config: RefreshConfig
) -> Iterable[PlannedCalls]:
    """Returns an upper bound without clusters: each title of a user in its own cluster, up to the
    number of clusters."""
    data, style = read_dataset(store, dataset), config.profiles.style
    apart = data.items.select(col.ITEM_INDEX, pl.col(col.ITEM_INDEX).alias(col.CLUSTER))
    titles = _titles_of_sample(data, apart, config)
    counts = titles.group_by(col.USER_INDEX).len()["len"].to_list()
    interests = [min(count, config.clusters.clusters) for count in counts]
    calls = sum(interests)
    shown = min(titles.height, calls * MAX_TITLES)
    template = _bytes(analyze_prompt([], llm.language, style).model_dump_json())
    read = ESTIMATED.tokens(calls * template + shown * _mean_title_bytes(data))
    yield _bound(
        "analyze interests", calls, calls, read, calls * llm.chat.analyze_tokens, endpoints.chat
    )
    yield from _bounded_summaries(interests, style, endpoints, llm)


def _bounded_summaries(
    interests: list[int], style: ProfileStyle, endpoints: Endpoints, llm: LlmConfig
) -> Iterable[PlannedCalls]:
    """Returns an upper bound of summaries (one per user, of one note per interest, if the style has
    summaries) and profile embeddings."""
    users = len(interests)
    noted = sum(interests) * llm.chat.analyze_tokens
    written = noted
    if style.is_summarized:
        prompt = summarize_prompt([], llm.language)
        read = users * ESTIMATED.tokens(_bytes(prompt.model_dump_json())) + noted
        written = users * llm.chat.summarize_tokens
        yield _bound("summarize users", users, users, read, written, endpoints.chat)
    batches = math.ceil(users / llm.embedding.batch_size)
    yield _bound("embed profiles", users, batches, written, 0, endpoints.embedding)


def _names(
    store: Store,
    dataset: ArtifactRef,
    clusters: ArtifactRef,
    endpoints: Endpoints,
    llm: LlmConfig,
    config: RefreshConfig,
) -> Iterable[PlannedCalls]:
    if config.profiles.max_users == 0:
        return
    if found := store.find(names_identity(dataset, clusters, endpoints.chat, llm)):
        yield _nothing(NAMING, int(store.manifest(found).counts["named"]))
        return
    asked = name_questions(store, dataset, clusters, endpoints.chat, llm.language).asked
    yield _planned(NAMING, Role.CHAT, asked, endpoints.chat, llm, store, NAME_TOKENS)


def _bounded_names(
    endpoints: Endpoints, llm: LlmConfig, config: RefreshConfig
) -> Iterable[PlannedCalls]:
    """Returns an upper bound of one naming prompt per cluster, with titles of maximum length."""
    if config.profiles.max_users == 0:
        return
    calls = config.clusters.clusters
    longest = name_cluster_prompt(["x" * 80] * TITLES_SHOWN, llm.language)
    read = calls * ESTIMATED.tokens(_bytes(longest.model_dump_json()))
    yield _bound(NAMING, calls, calls, read, calls * NAME_TOKENS, endpoints.chat)


def _crossings(
    store: Store,
    dataset: ArtifactRef,
    clusters: ArtifactRef,
    endpoints: Endpoints,
    llm: LlmConfig,
    config: RefreshConfig,
) -> Iterable[PlannedCalls]:
    """The questions exactly; the embedding of their answers exactly once they are there."""
    if not config.crossings.enabled:
        return
    if found := store.find(crossings_identity(dataset, clusters, endpoints, llm, config.crossings)):
        yield _nothing(CROSSING, int(store.manifest(found).counts["answered"]))
        return
    data, grouped = read_dataset(store, dataset), read_clusters(store, clusters)
    asked = cross_questions(data, grouped, endpoints.chat, llm.language, config.crossings).asked
    yield _planned(CROSSING, Role.CHAT, asked, endpoints.chat, llm, store, ANSWER_TOKENS)
    yield _bounded_answers(asked.height, endpoints, llm)


def _bounded_crossings(
    store: Store, dataset: ArtifactRef, endpoints: Endpoints, llm: LlmConfig, config: RefreshConfig
) -> Iterable[PlannedCalls]:
    """As if every cluster held items of every domain."""
    if not config.crossings.enabled:
        return
    domains = len(read_dataset(store, dataset).domains)
    about = config.clusters.clusters + config.crossings.items
    calls = domains * (domains - 1) * about
    title = "x" * 80
    longest = cross_prompt(
        [title] * CROSSED_TITLES, title, title, [title] * SOLD_SHOWN, llm.language
    )
    read = calls * ESTIMATED.tokens(_bytes(longest.model_dump_json()))
    yield _bound(CROSSING, calls, calls, read, calls * ANSWER_TOKENS, endpoints.chat)
    yield _bounded_answers(calls, endpoints, llm)


def _bounded_answers(answers: int, endpoints: Endpoints, llm: LlmConfig) -> PlannedCalls:
    batches = math.ceil(answers / llm.embedding.batch_size)
    read = answers * ANSWER_TOKENS
    return _bound("embed crossings", answers, batches, read, 0, endpoints.embedding)


def _planned(
    step: str,
    role: Role,
    keyed: pl.DataFrame,
    endpoint: Endpoint,
    llm: LlmConfig,
    store: Store,
    max_tokens: int = 0,
) -> PlannedCalls:
    distinct = keyed.unique(col.KEY, keep="first", maintain_order=True)
    ledger = open_ledger(store, role)
    ledger.refresh()
    missing = ledger.missing(distinct[col.KEY]).to_frame()
    new = distinct.join(missing, on=col.KEY, how="semi", maintain_order="left")
    texts = [_plain(prompt, role) for prompt in new[PROMPT].to_list()]
    rate = _rate(texts, endpoint)
    read = rate.tokens(sum(_bytes(text) for text in texts))
    written = new.height * max_tokens
    batch = llm.embedding.batch_size if role is Role.EMBEDDING else 1
    return PlannedCalls(
        step=step,
        prompts=distinct.height,
        reused=distinct.height - new.height,
        requests=math.ceil(new.height / batch),
        prompt_tokens=read,
        completion_tokens=written,
        usd=None if endpoint.price is None else endpoint.price.usd(read, written),
        is_exact=True,
        tokens_how=rate.how,
    )


def _bound(
    step: str, prompts: int, requests: int, read: int, written: int, endpoint: Endpoint
) -> PlannedCalls:
    usd = None if endpoint.price is None else endpoint.price.usd(read, written)
    return PlannedCalls(step, prompts, 0, requests, read, written, usd, False, ESTIMATED.how)


def _nothing(step: str, prompts: int) -> PlannedCalls:
    return PlannedCalls(step, prompts, prompts, 0, 0, 0, 0.0, True, "nothing to ask")


def _rate(texts: list[str], endpoint: Endpoint) -> TokenRate:
    # Servers of the local provider are not started for an estimate.
    spec = None if endpoint.price == FREE else endpoint.spec()
    return token_rate(texts, spec, endpoint.model)


def _plain(prompt: str, role: Role) -> str:
    if role is Role.EMBEDDING:
        return prompt
    return "\n".join(message["content"] for message in json.loads(prompt)["messages"])


def _mean_title_bytes(data: Dataset) -> int:
    mean = data.items[col.TITLE].str.len_bytes().mean()
    return round(float(mean)) if isinstance(mean, float) else 0


def _bytes(text: str) -> int:
    return len(text.encode())
