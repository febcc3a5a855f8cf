"""However many users are planned at a time, the profiles are the same, byte for byte."""

from pathlib import Path

import polars as pl
import pytest

import tasks.profile
from artifacts.ledger.answers import Role
from artifacts.store import Store
from tasks.llm import answer_all
from tasks.profile import ProfileConfig
from tasks.profiling import profile_prompts
from tests.fakes import CHAT, faulty_endpoint
from tests.tasks.shops.profiled_shop import Refreshed
from tests.tasks.shops.small_shop import EVENTS, SmallShop

pytestmark = pytest.mark.usefixtures("inline_shards")

CONFIGS = {
    "everyone": ProfileConfig(),
    "a sample, without summaries of one interest": ProfileConfig(
        max_users=9, seed=3, skip_summary_for_single_cluster=True
    ),
}


def many_users() -> SmallShop:
    copies = [(f"{user}{n}", *rest) for n in range(3) for user, *rest in EVENTS]
    return SmallShop(events=(*EVENTS, *copies))  # type: ignore[arg-type]


def profiled_with(
    users: int, prompts: int, root: Path, config: ProfileConfig, limit: pytest.MonkeyPatch
) -> tuple[dict[str, bytes], object]:
    limit.setattr(tasks.profile, "SLICE_USERS", users)
    limit.setattr(answer_all, "PIECE_ROWS", prompts)
    limit.setattr(answer_all, "PIECES_OF_SHARDS", 0)
    with faulty_endpoint() as server:
        run = Refreshed(Store(root / "store"), server, many_users(), config)
        made = run.run()
        folder = run.store.path(made.ref)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert server.requests_to(CHAT) > 0
    files.pop("manifest.json")
    return files, (made.ref, made.counts, made.usage)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_slices_of_any_size_give_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: ProfileConfig
) -> None:
    whole = profiled_with(10_000, 65_536, tmp_path / "whole", config, monkeypatch)
    assert whole == profiled_with(1, 1, tmp_path / "one", config, monkeypatch)
    assert whole == profiled_with(7, 5, tmp_path / "seven", config, monkeypatch)


def test_a_fault_while_later_prompts_are_rendered_ends_the_stage_with_its_own_words(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.profile, "SLICE_USERS", 1)
    monkeypatch.setattr(answer_all, "PIECE_ROWS", 1)
    monkeypatch.setattr(answer_all, "PIECES_OF_SHARDS", 0)
    rendered: list[object] = []

    def fails_later(titles: list[str], *asked_as: object) -> object:
        rendered.append(titles)
        if len(rendered) > 4:
            raise OSError("the disk of the prompts is full")
        return analyze(titles, *asked_as)  # type: ignore[arg-type]

    analyze = profile_prompts.analyze_prompt
    with faulty_endpoint() as server:
        run = Refreshed(store, server, SmallShop(), ProfileConfig(max_users=0))
        run.run()
        run.config = ProfileConfig()
        monkeypatch.setattr(profile_prompts, "analyze_prompt", fails_later)
        with pytest.raises(OSError, match="the disk of the prompts"):
            run.profiled()
        monkeypatch.setattr(profile_prompts, "analyze_prompt", analyze)
        asked = server.requests_to(CHAT)
        assert asked > 0
        again = run.profiled()
        assert again.usage.reused >= asked, "what was answered before the fault is kept"
    parts = pl.scan_parquet(store.local / "ledger" / Role.CHAT / "part-*.parquet")
    assert parts.select(pl.col("key").is_duplicated().any()).collect().item() is False
