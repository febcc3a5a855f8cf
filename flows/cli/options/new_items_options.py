"""Adding a file of new items to a recommender, for the commands that serve or export."""

from collections.abc import Callable
from pathlib import Path

from artifacts.store import Store
from flows.cli.options.configurations import llm_config
from flows.cli.options.option_classes import LlmOptions
from flows.cli.output import terminal
from flows.settings import Settings
from tasks.llm.providers.endpoints import open_endpoints
from tasks.llm.settings.llm_config import Provider
from tasks.serving.embed_new_items import LedgerEmbedder
from tasks.serving.new_items_file import read_new_items
from tasks.serving.recommender import Recommender


def new_items_adder(
    store: Store, path: Path | None, provider: Provider | None
) -> Callable[[Recommender], None]:
    """Return a function that adds the file's items to a recommender; without a file it does
    nothing."""
    settings = Settings()
    llm = llm_config(settings, LlmOptions(provider=provider))

    def add(recommender: Recommender) -> None:
        if path is None:
            return
        items = read_new_items(str(path), recommender.catalogue.domains)
        with open_endpoints(llm, settings.local_vllm, store.workspace("logs")) as endpoints:
            embedder = LedgerEmbedder(store, endpoints.embedding, recommender.facts)
            taken = recommender.add_items(items, embedder=embedder)
        terminal.out.print(
            f"New items: {taken.added:,} added ({taken.without_text:,} of them without a usable "
            f"text), {taken.known:,} were known already."
        )

    return add
