"""The service over real HTTP: the recommender's own answers, limits, and who it is that answers."""

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from artifacts.store import Store
from tasks.serving.app import create_app, newer_release_of
from tasks.serving.limits import Limits
from tasks.serving.recommender import Recommender
from tests.tasks.serving.server_thread import running_server
from tests.tasks.serving.small_release import PROFILES, small_release
from tests.tasks.shops.small_shop import EVENTS, TITLES, SmallShop

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
LIMITS = Limits(max_history=6, max_k=12, max_body_bytes=2_000)
G1, B2 = {"domain": "gear", "item_id": "g1"}, {"domain": "books", "item_id": "b2"}


@pytest.fixture
def recommender(store: Store) -> Recommender:
    small_release(store)
    return Recommender.load(store)


@pytest.fixture
def client(recommender: Recommender) -> Iterator[httpx.Client]:
    with (
        running_server(create_app(recommender, LIMITS)) as url,
        httpx.Client(base_url=url) as opened,
    ):
        yield opened


def listed(answer: dict) -> list[tuple[str, str, int]]:
    return [
        (item["domain"], item["item_id"], item["rank"])
        for domain in answer["domains"]
        for item in domain["items"]
    ]


def test_a_history_gets_the_recommenders_answer(
    client: httpx.Client, recommender: Recommender
) -> None:
    answer = client.post("/recommendations", json={"history": [G1, B2], "k": 3}).json()
    expected = recommender.recommend([("gear", "g1"), ("books", "b2")], k=3)
    assert listed(answer) == expected.select("domain", "item_id", "rank").rows()
    assert answer["basis"] == "history"
    one = client.post("/recommendations", json={"history": [G1], "domains": ["books"], "k": 1})
    assert [domain["domain"] for domain in one.json()["domains"]] == ["books"]


def test_a_domain_named_twice_is_answered_once(client: httpx.Client) -> None:
    reply = client.post("/recommendations", json={"history": [G1], "domains": ["books", "books"]})
    assert [domain["domain"] for domain in reply.json()["domains"]] == ["books"]


def test_requests_at_once_each_get_their_own_answer(
    client: httpx.Client, recommender: Recommender
) -> None:
    items = sorted(TITLES)
    asked = [([items[i % 9], items[(i * 5 + 2) % 9]], 1 + i % 4, bool(i % 3)) for i in range(40)]

    def ask(wish: tuple[list[tuple[str, str]], int, bool]) -> list[tuple[str, str, int]]:
        history, k, exclude = wish
        named = [{"domain": domain, "item_id": item} for domain, item in history]
        body = {"history": named, "k": k, "exclude_seen": exclude}
        return listed(client.post("/recommendations", json=body).json())

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, asked))
    for answer, (history, k, exclude) in zip(answers, asked, strict=True):
        alone = recommender.recommend(history, k=k, exclude_seen=exclude)
        assert answer == alone.select("domain", "item_id", "rank").rows()


def test_a_known_user_is_recommended_from_all_events(
    client: httpx.Client, recommender: Recommender
) -> None:
    answer = client.get("/users/ada/recommendations", params={"k": 2, "reasons": 1}).json()
    expected = recommender.recommend_users(["ada"], k=2)
    assert listed(answer) == expected.select("domain", "item_id", "rank").rows()
    bought = {item for user, item, _, _ in EVENTS if user == "ada"}
    for domain in answer["domains"]:
        for item in domain["items"]:
            reasons = [reason["item_id"] in bought for reason in item["reasons"]]
            assert reasons == ([] if item["title"] is None else [True])


def test_unknown_items_are_named_and_the_known_ones_answered(client: httpx.Client) -> None:
    nope = {"domain": "gear", "item_id": "nope"}
    answer = client.post("/recommendations", json={"history": [nope, G1]}).json()
    assert answer["unknown_items"] == [nope]
    assert answer["basis"] == "history"
    nothing = client.post("/recommendations", json={"history": [nope]}).json()
    assert nothing["basis"] == "popularity"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"history": [G1] * 7}, 422, "at most 6"),
        ({"history": [G1], "k": 13}, 422, "at most 12"),
        ({"history": [G1], "k": 0}, 422, "greater than or equal to 1"),
        ({"history": [G1], "typo": 1}, 422, "typo"),
        ({"history": [G1], "domains": ["shoes"]}, 404, "books, gear"),
        ({"history": [{"item_id": "x" * 200}] * 6, "k": 1, "domains": ["x" * 900]}, 413, "2,000"),
    ],
)
def test_what_is_asked_beyond_a_limit_is_refused_in_words(
    client: httpx.Client, body: dict, status: int, words: str
) -> None:
    reply = client.post("/recommendations", json=body)
    assert (reply.status_code, words in reply.text) == (status, True)


@pytest.mark.parametrize("item_id", ["", "x" * 257])
def test_a_similar_items_id_is_checked(client: httpx.Client, item_id: str) -> None:
    assert client.get("/similar", params={"item_id": item_id}).status_code == 422


def test_a_long_body_of_unknown_length_is_refused(client: httpx.Client) -> None:
    parts = (b" " * 500 for _ in range(9))
    assert client.post("/recommendations", content=parts).status_code == 413


def test_scores_and_similar_items_are_the_recommenders(
    client: httpx.Client, recommender: Recommender
) -> None:
    body = {"history": [G1], "items": [B2, {"item_id": "g3"}]}
    scores = client.post("/scores", json=body).json()["scores"]
    assert scores == pytest.approx(recommender.score(["g1"], ["b2", "g3"]).tolist())
    found = client.get("/similar", params={"item_id": "g1", "within": "books", "k": 2}).json()
    expected = recommender.similar("g1", "books", 2)["item_id"].to_list()
    assert [item["item_id"] for item in found["similar"]] == expected
    assert client.get("/similar", params={"item_id": "nope"}).status_code == 404


def test_users_and_items_can_be_looked_up(client: httpx.Client) -> None:
    card = client.get("/users/ada").json()
    assert [item["item_id"] for item in card["history"]] == ["g1", "b1", "g2", "g4", "b3"]
    assert card["profile"] == PROFILES["ada"]
    assert client.get("/users", params={"search": "d"}).json() == {
        "users": ["ada", "cyd", "dan"],
        "total": 5,
    }
    found = client.get("/items", params={"search": "running", "domain": "books"}).json()
    assert [item["item_id"] for item in found["items"]] == ["b2"]
    assert client.get("/users/zoe").status_code == 404
    assert "zoe" in client.get("/users/zoe").json()["detail"]
    assert "/docs lists the routes" in client.get("/user/zoe").json()["detail"]


def test_health_says_what_is_served(client: httpx.Client, recommender: Recommender) -> None:
    health = client.get("/health").json()
    assert health["release"] == recommender.facts.ref.fingerprint
    assert (health["users"], health["items"]) == (5, {"books": 4, "gear": 5})


def test_a_users_id_may_hold_a_slash(store: Store) -> None:
    events = tuple(("team/eve" if user == "eve" else user, *rest) for user, *rest in EVENTS)
    small_release(store, shop=SmallShop(events=events))  # pyright: ignore[reportArgumentType]
    app = create_app(Recommender.load(store))
    with running_server(app) as url, httpx.Client(base_url=url) as client:
        assert client.get("/users/team%2Feve").json()["user_id"] == "team/eve"
        answer = client.get("/users/team%2Feve/recommendations?k=1").json()
        assert answer["user_id"] == "team/eve"
        assert listed(answer)
        assert client.get("/users/team/eve").status_code == 404


def test_metrics_count_requests_by_route_and_never_by_user(client: httpx.Client) -> None:
    for user in ("ada", "bob", "zoe"):
        client.get(f"/users/{user}")
    text = client.get("/metrics").text
    assert 'llm4cdsr_requests_total{route="/users/{user_id}",status="200"} 2.0' in text
    assert 'llm4cdsr_requests_total{route="/users/{user_id}",status="404"} 1.0' in text
    assert "ada" not in text


def test_a_newer_release_is_served_without_a_restart(store: Store) -> None:
    small_release(store, seed=1)
    served = Recommender.load(store)
    app = create_app(served, refresh=newer_release_of(store.root), refresh_seconds=0.05)
    with running_server(app) as url, httpx.Client(base_url=url) as client:
        newer = small_release(store, seed=2)
        for _ in range(600):
            if client.get("/health").json()["release"] == newer.fingerprint:
                break
        answer = client.post("/recommendations", json={"history": [G1]}).json()
    assert answer["release"] == newer.fingerprint


def test_a_release_that_cannot_be_opened_leaves_the_old_one_in_use(
    recommender: Recommender,
) -> None:
    asked: list[int] = []

    def broken(_: Recommender) -> Recommender:
        asked.append(1)
        raise OSError("no such file")

    app = create_app(recommender, refresh=broken, refresh_seconds=0.01)
    with running_server(app) as url, httpx.Client(base_url=url) as client:
        while not asked:
            client.get("/health")
        assert client.post("/recommendations", json={"history": [G1]}).status_code == 200


def test_the_page_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    for name in ("/", "/browse.css", "/browse.js"):
        text = client.get(name).text
        assert "http://" not in text
        assert "https://" not in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
def test_a_browser_shows_a_users_profile_history_and_recommendations(
    client: httpx.Client, recommender: Recommender, tmp_path: Path
) -> None:
    dom = in_browser(f"{client.base_url}#user=ada", tmp_path)
    assert "Likes coffee." in dom
    assert "User ada: 5 events" in dom
    for title in recommender.recommend_users(["ada"])["title"].drop_nulls():
        assert title in dom
    assert 'aria-busy="false"' in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
def test_a_browser_without_a_user_shows_the_most_bought_items(
    client: httpx.Client, tmp_path: Path
) -> None:
    dom = in_browser(str(client.base_url), tmp_path)
    assert "these are the most popular items" in dom
    assert "Trail Running Vest" in dom


def in_browser(url: str, folder: Path) -> str:
    """The page's elements once its scripts have nothing left to do."""
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--dump-dom"]
    command = [CHROMIUM, *flags, f"--user-data-dir={folder}", "--virtual-time-budget=8000", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout
