"""Requests as no client should send them: refused in words, never a failure or another's answer."""

import json
import string
from collections.abc import Iterator

import httpx
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifacts.store import Store
from tasks.serving.app import create_app
from tasks.serving.limits import Limits
from tasks.serving.recommender import Recommender
from tests.tasks.serving.server_thread import running_server
from tests.tasks.serving.small_release import small_release
from tests.tasks.shops.small_shop import EVENTS, SmallShop

LIMITS = Limits(max_history=6, max_k=12, max_body_bytes=20_000)
EXAMPLES = 60
FINE, REFUSED = {200}, {400, 401, 404, 405, 408, 413, 414, 422}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    store = Store(tmp_path_factory.mktemp("store"))
    named = {"eve": "ada/recommendations", "dan": "any", "cyd": "ü%2F?#"}
    events = tuple((named.get(user, user), *rest) for user, *rest in EVENTS)
    small_release(store, shop=SmallShop(events=events))  # pyright: ignore[reportArgumentType]
    app = create_app(Recommender.load(store), LIMITS)
    with running_server(app) as url, httpx.Client(base_url=url, timeout=60) as opened:
        yield opened


def read(answer: httpx.Response) -> object:
    """The answer's JSON; NaN and Infinity are none."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in {answer.request.url}")

    return json.loads(answer.text, parse_constant=refuse)


@pytest.mark.parametrize(
    "body",
    [
        b'{"history": [], "k": NaN}',
        b'{"history": [], "k": Infinity}',
        b'{"history": [], "k": -Infinity}',
        b'{"history": [], "k": 1e999}',
        b'{"history": [], "k": 1' + b"0" * 5_000 + b"}",
        b'{"history": [{"item_id": "\\ud800"}]}',
        b'{"history": [{"item_id": "g1", "domain": "\\udfff"}]}',
        b'{"history": [], "domains": ["\\ud800"]}',
        b'{"history": [], "\\ud800": 1}',
        b'{"history": "\xff"}',
        b'{"history": [], "reasons": NaN, "exclude_seen": NaN}',
        b"NaN",
        b"[" * 9_000,
        b"[" * 9_000 + b"]" * 9_000,
        b'{"history":' * 1_500 + b"0" + b"}" * 1_500,
        b'{"history": ' + b"[" * 4_000 + b"]" * 4_000 + b"}",
        b"",
        b"null",
        b'{"history": [',
        b"\x00",
    ],
)
@pytest.mark.parametrize("path", ["/recommendations", "/scores"])
def test_a_body_that_is_no_question_is_422(client: httpx.Client, path: str, body: bytes) -> None:
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code == 422, answer.text
    assert read(answer)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_body_that_is_no_utf_8_is_422(client: httpx.Client, encoding: str) -> None:
    body = '{"history": [{"item_id": "ü"}]}'.encode(encoding)
    # Python's parser knows UTF-16 by its first bytes; then the question is a plain one.
    expected = 200 if encoding == "utf-16" else 422
    assert client.post("/recommendations", content=body, headers=JSON).status_code == expected


def test_an_id_that_ends_like_a_route_is_that_persons(client: httpx.Client) -> None:
    odd = "ada%2Frecommendations"
    card = client.get(f"/users/{odd}").json()
    assert card["user_id"] == "ada/recommendations"
    listed = client.get("/users/ada/recommendations").json()
    assert listed["user_id"] == "ada"
    assert client.get(f"/users/{odd}/recommendations").json()["user_id"] == "ada/recommendations"
    assert client.get("/users/any").json()["user_id"] == "any"
    encoded = "%C3%BC%252F%3F%23"
    assert client.get(f"/users/{encoded}").json()["user_id"] == "ü%2F?#"


@pytest.mark.parametrize("path", ["/users/%FF", "/users/%ED%A0%80", "/users/%FF/recommendations"])
def test_an_id_that_is_no_utf_8_is_422(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 422


@pytest.mark.parametrize("path", ["/users/", "/users//recommendations", "/users/a/b/c"])
def test_a_path_of_no_route_is_404(client: httpx.Client, path: str) -> None:
    assert client.get(path, follow_redirects=True).status_code in (
        404,
        200 if path == "/users/" else 404,
    )


def test_head_is_answered_like_get_without_the_content(client: httpx.Client) -> None:
    paths = ["/", "/browse.css", "/health", "/metrics", "/users", "/users/ada", "/items"]
    for path in [*paths, "/users/ada/recommendations", "/similar?item_id=g1", "/openapi.json"]:
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"] == got.headers["content-type"]
    assert client.head("/users/nobody").status_code == 404
    assert client.head("/recommendations").status_code == 405


def test_no_answer_may_be_kept_or_loaded_by_another_site(client: httpx.Client) -> None:
    for path in ("/", "/users/ada", "/users/nobody", "/health", "/nothing"):
        headers = client.get(path).headers
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


KNOWN = {
    "item_id": ["g1", "g2", "g3"],
    "domain": ["gear"],
    "within": ["books"],
    "only": ["books"],
    "user_id": ["ada"],
}
HALF_CHARACTERS = st.text(st.characters(categories=["Cs", "Cc"]), max_size=3)
TEXT = st.sampled_from(["g1", "b1", "nope", "gear", "ada"]) | st.text(max_size=20) | HALF_CHARACTERS
NUMBERS = st.integers(-2, 14) | st.integers() | st.floats()
LONG = st.just("1" + "0" * 5_000)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def conforming(schema: dict, parts: dict, named: str = "") -> st.SearchStrategy:
    """Values of a JSON schema, known ids among them; one in some is none of it."""
    if "$ref" in schema:
        return conforming(parts[schema["$ref"].rpartition("/")[2]], parts)
    if "anyOf" in schema:
        return st.one_of([conforming(each, parts, named) for each in schema["anyOf"]])
    match schema.get("type"):
        case "object":
            fields = {
                name: conforming(part, parts, name) for name, part in schema["properties"].items()
            }
            needed = set(schema.get("required", ()))
            made = st.fixed_dictionaries(
                {name: fields[name] for name in needed},
                optional={name: fields[name] for name in fields.keys() - needed},
            )
        case "array":
            made = st.lists(conforming(schema["items"], parts, named), max_size=3)
        case "string":
            known = st.sampled_from(KNOWN[named]) if named in KNOWN else TEXT
            made = st.integers(0, 7).flatmap(lambda dice: known if dice else TEXT)
        case "integer":
            made = st.integers(schema.get("minimum", -2), schema.get("maximum", 14))
        case "boolean":
            made = st.booleans()
        case "null":
            made = st.none()
        case _:
            raise AssertionError(schema)
    return st.integers(0, 29).flatmap(lambda dice: made if dice else ANYTHING)


@st.composite
def requests(draw: st.DrawFn, described: dict) -> tuple[str, str, httpx.Request]:
    """A request of a described operation: its method, its path as described, and it."""
    path = draw(st.sampled_from(sorted(described["paths"])))
    method = draw(st.sampled_from(sorted(described["paths"][path])))
    operation = described["paths"][path][method]
    parts = described["components"]["schemas"]
    filled, query = path, []
    for parameter in operation.get("parameters", ()):
        if not parameter["required"] and draw(st.booleans()):
            continue
        odd = draw(st.integers(0, 5)) == 0
        fitting = conforming(parameter["schema"], parts, parameter["name"])
        value = draw(TEXT | NUMBERS | LONG if odd else fitting)
        each = value if isinstance(value, list) else [value]
        texts = [_text(one) for one in each]
        if parameter["in"] == "path":
            filled = filled.replace(f"{{{parameter['name']}}}", _quoted(_text(value)))
        else:
            query += [f"{parameter['name']}={_quoted(text)}" for text in texts]
    url = f"{filled}?{'&'.join(query)}" if query else filled
    content = None
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        content = json.dumps(draw(conforming(schema, parts))).encode()
    return (
        method,
        path,
        httpx.Request(method.upper(), f"http://localhost{url}", content=content, headers=JSON),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    safe = string.ascii_letters + string.digits
    sent = text.encode("utf-8", "surrogatepass")
    return "".join(chr(b) if chr(b) in safe else f"%{b:02X}" for b in sent)


def test_every_described_operation_answers_as_described_or_refuses(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    seen: set[tuple[str, int]] = set()

    @settings(
        max_examples=EXAMPLES * len(described["paths"]),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(requests(described))
    def ask(asked: tuple[str, str, httpx.Request]) -> None:
        method, path, request = asked
        answer = client.request(
            method,
            request.url.raw_path.decode(),
            content=request.content,
            headers=JSON,
            follow_redirects=True,
        )
        assert answer.status_code in FINE | REFUSED, (request.url, request.content, answer.text)
        told = read(answer)
        seen.add((path, answer.status_code))
        if answer.status_code == 200 and answer.url.path == request.url.path:
            responses = described["paths"][path][method]["responses"]
            schema = responses["200"]["content"]["application/json"]["schema"]
            whole = {**schema, "components": described["components"]}
            jsonschema.validate(told, whole)

    ask()
    answered = {path for path, status in seen if status == 200}
    assert set(described["paths"]) - answered == set()  # Not refused alone: asked in earnest.


@pytest.mark.parametrize(
    "path", ["/users/ada/recommendations?domains=gear", "/similar?item_id=g1&K=3", "/items?q=x"]
)
def test_a_parameter_that_would_be_ignored_is_refused_with_the_known_ones(
    client: httpx.Client, path: str
) -> None:
    answer = client.get(path)
    assert answer.status_code == 422
    assert "Unknown parameter; this route has " in answer.text
    assert client.get("/health?probe=1").status_code == 200


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", None])
@pytest.mark.parametrize("path", ["/recommendations", "/scores", "/effects"])
def test_a_body_that_is_not_declared_as_json_names_the_header(
    client: httpx.Client, path: str, kind: str | None
) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = client.post(path, content=b'{"history": []}', headers=headers)
    assert (answer.status_code, "Content-Type: application/json" in answer.text) == (422, True)


def test_effects_list_the_unknown_items_of_a_history(client: httpx.Client) -> None:
    known, unknown = {"item_id": "g1", "domain": None}, {"item_id": "x", "domain": "gear"}
    body = {"history": [unknown, known], "item": {"item_id": "g2"}}
    answer = client.post("/effects", json=body).json()
    assert answer["unknown_items"] == [unknown]
    assert [effect["item_id"] for effect in answer["effects"]] == ["g1"]
    nothing = client.post("/effects", json=body | {"history": [unknown]}).json()
    assert (nothing["unknown_items"], nothing["effects"]) == ([unknown], [])
