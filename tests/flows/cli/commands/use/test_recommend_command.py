"""The next items of one user, in the terminal."""

import re

import pytest
from typer.testing import CliRunner

from artifacts.shown_users import SHOWN_VARIABLE, ShownAs, shown_users
from artifacts.store import Store
from flows.cli.command_table import app
from flows.cli.output import terminal
from tasks.serving.recommender import Recommender
from tests.tasks.serving.small_release import small_release


@pytest.fixture
def root(store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(terminal.out, "_width", 250)
    small_release(store)
    return store.root


def test_a_user_is_shown_the_lists_of_the_release_and_the_event_behind_each(root: str) -> None:
    ended = CliRunner().invoke(app, ["recommend", "eve", "--k", "2", "--store", root])
    assert ended.exit_code == 0, ended.output
    lines = [line.split("│")[1:-1] for line in ended.output.splitlines() if "│" in line]
    cells = [tuple(cell.strip() for cell in line) for line in lines]
    recommender = Recommender.load(root)
    lists = recommender.recommend_users(["eve"], k=2)
    told = lists.select("domain", "rank", "item_id", "title").rows()
    assert [(rank, item) for _, rank, item, _ in cells] == [
        (str(rank), title or item) for _, rank, item, title in told
    ]
    assert [place for place, *_ in cells if place] == ["books", "gear (new to the user)"]
    (event,) = recommender.history("eve")
    name = recommender.catalogue.titles[recommender.catalogue.index(event) - 1] or event[1]
    effects = [recommender.effects([event], (place, item)).effects for place, _, item, _ in told]
    assert [cause for *_, cause in cells] == [name if each[0] > 0 else "" for each in effects]


def test_an_unknown_user_is_told_with_those_alike(root: str) -> None:
    ended = CliRunner().invoke(app, ["recommend", "adda", "--store", root])
    assert ended.exit_code == 2
    assert "no user 'adda'; it has ada and others" in ended.output


def test_with_hashed_users_no_id_is_shown(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHOWN_VARIABLE, ShownAs.HASHED)
    name = shown_users(Store(root)).name("eve")
    for typed in ("eve", name):
        ended = CliRunner().invoke(app, ["recommend", typed, "--store", root])
        assert ended.exit_code == 0, ended.output
        assert f"User {name}:" in ended.output
        assert "eve" not in re.findall(r"\w+", ended.output)
    ended = CliRunner().invoke(app, ["recommend", "adda", "--store", root])
    assert ended.exit_code == 2
    assert "no user (hidden)" in ended.output
    assert not {"ada", "adda"} & set(re.findall(r"\w+", ended.output))
