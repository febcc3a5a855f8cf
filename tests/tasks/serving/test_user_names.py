"""The page and its JSON name users by keyed hashes, if set, and requests by id are answered."""

import json
from collections.abc import Iterator

import httpx
import pytest

from artifacts.shown_users import PREFIX, SHOWN_VARIABLE, ShownUsers, hashed_users
from artifacts.store import Store
from tasks.serving.app import create_app
from tasks.serving.recommender import Recommender
from tasks.serving.user_names import UnknownUserError, UserNames
from tests.tasks.serving.server_thread import running_server
from tests.tasks.serving.small_release import small_release

IDS = [f"user number {n}" for n in range(2000)]


@pytest.fixture
def client(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setenv(SHOWN_VARIABLE, "hashed")
    small_release(store)
    with (
        running_server(create_app(Recommender.load(store))) as url,
        httpx.Client(base_url=url) as client,
    ):
        yield client


def test_the_list_of_users_has_no_id(client: httpx.Client, store: Store) -> None:
    ids = Recommender.load(store).user_ids
    for asked in ("/users?limit=100", "/users?any=true&limit=100", "/users?only=gear"):
        answer = client.get(asked)
        assert all(name.startswith(PREFIX) for name in answer.json()["users"])
        assert not [user for user in ids if json.dumps(user) in answer.text]
    assert client.get("/users").json()["total"] == len(ids)


def test_who_types_an_id_finds_its_user_and_who_types_a_part_finds_nobody(
    client: httpx.Client, store: Store
) -> None:
    name = hashed_users(store).name("bob")
    assert client.get("/users?search=bob").json()["users"] == [name]
    assert client.get("/users?search=bo").json()["users"] == []  # No hash contains an o.
    assert client.get(f"/users?search={name[:-3]}").json()["users"] == [name]
    assert client.get(f"/users?search={name[len(PREFIX) : -3]}").json()["users"] == [name]


def test_a_user_is_answered_by_id_and_by_name(client: httpx.Client, store: Store) -> None:
    name = hashed_users(store).name("ada")
    by_id, by_name = (client.get(f"/users/{user}").json() for user in ("ada", name))
    assert (by_id["user_id"], by_name["user_id"]) == ("ada", name)
    assert by_id["shown_as"] == by_name["shown_as"] == name
    assert by_id["history"] == by_name["history"] != []
    assert by_id["profile"] == by_name["profile"] == "Likes coffee.\nAnd yoga."
    lists = [client.get(f"/users/{user}/recommendations").json() for user in ("ada", name)]
    assert lists[0]["domains"] == lists[1]["domains"]


def test_an_unknown_id_is_not_quoted(client: httpx.Client, store: Store) -> None:
    answer = client.get("/users/zoe-of-elsewhere")
    assert (answer.status_code, "zoe" in answer.text) == (404, False)
    assert hashed_users(store).name("zoe-of-elsewhere") in answer.text
    assert client.get(f"/users/{PREFIX}{'0' * 16}").status_code == 404


def test_names_are_found_among_many_users() -> None:
    names = UserNames(IDS, ShownUsers(b"key"))
    assert [names.index(names.name(n)) for n in range(len(IDS))] == list(range(len(IDS)))
    some = names.name(7)
    found = names.search(some[: len(PREFIX) + 2], IDS, len(IDS))
    starting = [
        name
        for name in map(names.name, range(len(IDS)))
        if name.startswith(some[: len(PREFIX) + 2])
    ]
    assert sorted(found) == sorted(starting)
    assert names.search("", IDS, 3) == [names.name(n) for n in range(3)]
    assert names.search(IDS[7], IDS[:5], 3) == []
    for unknown in (f"{PREFIX}{'g' * 16}", PREFIX, "user number", ""):
        with pytest.raises(UnknownUserError):
            names.index(unknown)


def test_ids_are_searched_by_their_parts_where_they_are_shown() -> None:
    names = UserNames(IDS, ShownUsers())
    assert names.search("number 199", IDS, 20) == [IDS[199], *IDS[1990:]]
    with pytest.raises(UnknownUserError, match="'zoe'"):
        names.index("zoe")
