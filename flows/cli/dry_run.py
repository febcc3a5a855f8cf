"""Cost estimate of a refresh without sending prompts: `llm4cdsr run --dry-run`.

Stages without LLM requests are executed, and their artifacts are kept for the run. Prompts are
rendered and looked up in the ledger, so the number of calls of a step is exact if all earlier steps
are answered; otherwise it is marked as an upper bound.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from artifacts import columns as col
from artifacts.kinds.clusters import read_clusters
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.ledger.answers import Role
from artifacts.ledger.ledger import open_ledger
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from flows.refresh import RefreshConfig
from flows.settings import Settings
from prompts.render import (
    MAX_TITLES,
    ChatPrompt,
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
from tasks.llm.providers.changed_models import warn_of_changed_models
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
        warn_of_changed_models(opened, endpoints)
        dataset = ingest.fn(dump, store).ref
        return tuple(_Estimate(opened, dataset, endpoints, llm, config).steps())


@dataclass(frozen=True)
class _Estimate:
    """The steps of one refresh. Those named ``bounded`` are upper bounds, from the data alone."""

    store: Store
    dataset: ArtifactRef
    endpoints: Endpoints
    llm: LlmConfig
    config: RefreshConfig

    @cached_property
    def data(self) -> Dataset:
        return read_dataset(self.store, self.dataset)

    def steps(self) -> Iterator[PlannedCalls]:
        items = self._items()
        yield items
        if items.requests:  # Without vectors there are no clusters.
            yield from self._bounded_profiles()
            yield from self._bounded_names()
            yield from self._bounded_crossings()
            return
        root = self.store.root
        embeddings = embed_items.fn(self.dataset, self.endpoints.embedding, self.llm, root).ref
        clusters = cluster_items.fn(embeddings, self.config.clusters, root).ref
        yield from self._profiles(clusters)
        yield from self._names(clusters)
        yield from self._crossings(clusters)

    def _items(self) -> PlannedCalls:
        endpoint, items = self.endpoints.embedding, self.data.items
        if self.store.find(embeddings_identity(self.dataset, endpoint, self.llm)):
            return _nothing("embed items", items.height)
        texts = item_texts(items, self.llm.language).filter(pl.col(PROMPT) != "")[PROMPT].to_list()
        return self._planned("embed items", Role.EMBEDDING, embedding_keys(texts, endpoint))

    def _profiles(self, clusters: ArtifactRef) -> Iterator[PlannedCalls]:
        """Yields the analyses exactly; summaries and embeddings exactly if all analyses are
        answered."""
        wanted = profiles_identity(
            self.dataset, clusters, self.endpoints, self.llm, self.config.profiles
        )
        if found := self.store.find(wanted):
            counts = self.store.manifest(found).counts
            yield _nothing("profile users", int(counts["with_profile"]))
            return
        titles = self._titles_of_sample(read_clusters(self.store, clusters))
        style, tokens = self.config.profiles.style, self.llm.chat.analyze_tokens
        prompts = [analyze_prompt(row, self.llm.language, style) for row in titles["titles"]]
        keyed = chat_keys(prompts, self.endpoints.chat, tokens)
        yield self._planned("analyze interests", Role.CHAT, keyed, tokens)
        yield from self._bounded_summaries(_interests_of_users(titles))

    def _titles_of_sample(self, clusters: pl.DataFrame) -> pl.DataFrame:
        """Returns the titles by interest of the users to profile."""
        titles = titles_by_interest(self.data, clusters)
        sample = sampled_users(self.data, titles, self.config.profiles)
        return titles.join(sample, on=col.USER_INDEX, how="semi")

    def _bounded_profiles(self) -> Iterator[PlannedCalls]:
        """Counts each title of a user as a cluster of its own, up to the number of clusters."""
        apart = self.data.items.select(col.ITEM_INDEX, pl.col(col.ITEM_INDEX).alias(col.CLUSTER))
        titles = self._titles_of_sample(apart)
        most = self.config.clusters.clusters
        interests = [min(count, most) for count in _interests_of_users(titles)]
        calls = sum(interests)
        shown = min(titles.height, calls * MAX_TITLES)
        template = analyze_prompt([], self.llm.language, self.config.profiles.style)
        read = ESTIMATED.tokens(calls * _size(template) + shown * _mean_title_bytes(self.data))
        written = calls * self.llm.chat.analyze_tokens
        yield self._bound("analyze interests", Role.CHAT, calls, read, written)
        yield from self._bounded_summaries(interests)

    def _bounded_summaries(self, interests: list[int]) -> Iterator[PlannedCalls]:
        """Yields summaries (one per user, of one note per interest, if the style has summaries) and
        profile embeddings."""
        users, chat = len(interests), self.llm.chat
        written = noted = sum(interests) * chat.analyze_tokens
        if self.config.profiles.style.is_summarized:
            prompt = summarize_prompt([], self.llm.language)
            read = users * ESTIMATED.tokens(_size(prompt)) + noted
            written = users * chat.summarize_tokens
            yield self._bound("summarize users", Role.CHAT, users, read, written)
        yield self._bound("embed profiles", Role.EMBEDDING, users, written)

    def _names(self, clusters: ArtifactRef) -> Iterator[PlannedCalls]:
        chat = self.endpoints.chat
        if self.config.profiles.max_users == 0:
            return
        if found := self.store.find(names_identity(self.dataset, clusters, chat, self.llm)):
            yield _nothing(NAMING, int(self.store.manifest(found).counts["named"]))
            return
        asked = name_questions(self.store, self.dataset, clusters, chat, self.llm.language).asked
        yield self._planned(NAMING, Role.CHAT, asked, NAME_TOKENS)

    def _bounded_names(self) -> Iterator[PlannedCalls]:
        """Yields one naming prompt per cluster, with titles of maximum length."""
        if self.config.profiles.max_users == 0:
            return
        calls = self.config.clusters.clusters
        longest = name_cluster_prompt(["x" * 80] * TITLES_SHOWN, self.llm.language)
        read = calls * ESTIMATED.tokens(_size(longest))
        yield self._bound(NAMING, Role.CHAT, calls, read, calls * NAME_TOKENS)

    def _crossings(self, clusters: ArtifactRef) -> Iterator[PlannedCalls]:
        """Yields the questions exactly; the embedding of their answers exactly once they are
        there."""
        config, endpoints, llm = self.config.crossings, self.endpoints, self.llm
        if not config.enabled:
            return
        wanted = crossings_identity(self.dataset, clusters, endpoints, llm, config)
        if found := self.store.find(wanted):
            yield _nothing(CROSSING, int(self.store.manifest(found).counts["answered"]))
            return
        grouped = read_clusters(self.store, clusters)
        asked = cross_questions(self.data, grouped, endpoints.chat, llm.language, config).asked
        yield self._planned(CROSSING, Role.CHAT, asked, ANSWER_TOKENS)
        yield self._bounded_answers(asked.height)

    def _bounded_crossings(self) -> Iterator[PlannedCalls]:
        """Counts as if every cluster held items of every domain."""
        if not self.config.crossings.enabled:
            return
        domains, title = len(self.data.domains), "x" * 80
        about = self.config.clusters.clusters + self.config.crossings.items
        calls = domains * (domains - 1) * about
        longest = cross_prompt(
            [title] * CROSSED_TITLES, title, title, [title] * SOLD_SHOWN, self.llm.language
        )
        read = calls * ESTIMATED.tokens(_size(longest))
        yield self._bound(CROSSING, Role.CHAT, calls, read, calls * ANSWER_TOKENS)
        yield self._bounded_answers(calls)

    def _bounded_answers(self, answers: int) -> PlannedCalls:
        return self._bound("embed crossings", Role.EMBEDDING, answers, answers * ANSWER_TOKENS)

    def _planned(
        self, step: str, role: Role, keyed: pl.DataFrame, max_tokens: int = 0
    ) -> PlannedCalls:
        endpoint = self._endpoint(role)
        distinct = keyed.unique(col.KEY, keep="first", maintain_order=True)
        ledger = open_ledger(self.store, role)
        ledger.refresh()
        new = ledger.unanswered(distinct)
        texts = [_plain(prompt, role) for prompt in new[PROMPT].to_list()]
        rate = _rate(texts, endpoint)
        read = rate.tokens(sum(len(text.encode()) for text in texts))
        written = new.height * max_tokens
        return PlannedCalls(
            step=step,
            prompts=distinct.height,
            reused=distinct.height - new.height,
            requests=self._requests(role, new.height),
            prompt_tokens=read,
            completion_tokens=written,
            usd=_usd(endpoint, read, written),
            is_exact=True,
            tokens_how=rate.how,
        )

    def _bound(
        self, step: str, role: Role, prompts: int, read: int, written: int = 0
    ) -> PlannedCalls:
        usd, requests = _usd(self._endpoint(role), read, written), self._requests(role, prompts)
        return PlannedCalls(step, prompts, 0, requests, read, written, usd, False, ESTIMATED.how)

    def _endpoint(self, role: Role) -> Endpoint:
        return self.endpoints.chat if role is Role.CHAT else self.endpoints.embedding

    def _requests(self, role: Role, prompts: int) -> int:
        return prompts if role is Role.CHAT else math.ceil(prompts / self.llm.embedding.batch_size)


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


def _size(prompt: ChatPrompt) -> int:
    return len(prompt.model_dump_json().encode())


def _usd(endpoint: Endpoint, read: int, written: int) -> float | None:
    return None if endpoint.price is None else endpoint.price.usd(read, written)


def _interests_of_users(titles: pl.DataFrame) -> list[int]:
    return titles.group_by(col.USER_INDEX).len()["len"].to_list()
