"""Generated items of the demo's two shops: gear and books.

Both sell for the same interests (coffee, baking, gardening, …), each of them a few topics, written
down in `catalogue/*.toml`. A seed selects brands, lines, prices and some of the books, and
determines follow-up items.
"""

import hashlib
import random
import tomllib
from dataclasses import dataclass
from importlib.resources import files

from artifacts.strict import Strict

GEAR = "gear"
BOOKS = "books"

_LINES = ("", "", "", "Classic", "Select", "Heritage", "Original")
_GEAR_CLOSINGS = (
    "{brand} makes it in small batches.",
    "A favourite with everyone who takes {topic} seriously.",
    "Our own staff chose it for the {topic} shelf.",
    "Guaranteed for two years and repaired for ten.",
    "Arrives without plastic in the parcel.",
    "A good first buy for {topic}, and a better second one.",
)
_BOOK_PATTERNS = (
    "The Little Book of {subject}",
    "A Year of {subject}",
    "{subject}, Step by Step",
    "Notes on {subject}",
    "Better {subject} in Thirty Days",
    "{subject} for the Curious Beginner",
    "Questions About {subject}, Answered",
    "The Joy & Trouble of {subject}",
)
_BOOK_DESCRIPTIONS = (
    "{author} explains {subject} from the first steps to the finer points, with {n} photographs.",
    "A warm and funny account of {subject} by {author}, who has tried everything twice.",
    "{n} pages on {subject}: what matters, what does not, and what {author} got wrong for years.",
    "{author} spent a year on {subject}. Here are the lessons, the failures and {n} drawings.",
    "The clearest introduction to {subject} we stock. With checklists and an index of {n} entries.",
    "Part memoir, part handbook: {author} on {subject} and the people who love it.",
)
# fmt: off
_PUBLISHERS = (
    "Harrow & Finch", "Lantern Row Press", "Blue Gate Books", "Ostler House",
    "Tidewater Editions", "Meridian Lane", "Papermill Press", "Northbound",
)
_FIRST_NAMES = (
    "Ada", "Benno", "Carla", "Dario", "Edith", "Farah", "Gianni", "Hanne", "Ilse", "Jonas",
    "Kira", "Lorenzo", "Maud",
)
_LAST_NAMES = (
    "Albers", "Bright", "Conti", "Dahl", "Ferrand", "Hollis", "Ito", "Keller", "Lund",
    "Moretti", "Okafor", "Reyes",
)
# fmt: on
_SMALL_WORDS = frozenset(("a", "and", "at", "for", "in", "of", "the"))
_PROPER = frozenset(("Italian", "Pilates"))
# Decay of sales by rank within a topic: the first sells about eight times the tenth.
_ZIPF_EXPONENT = 0.9
_ENTITY_SHARE = 0.3
_NO_DESCRIPTION, _NO_PRICE, _TITLE_ONLY = 0.08, 0.06, 0.012


class ImpossibleCatalogueSizeError(ValueError):
    """Too few items for all topics, or more than can be distinguished."""


@dataclass(frozen=True, slots=True)
class DemoItem:
    """One row of `items.parquet`, with sales weights.

    `weight` is its relative sale inside its topic and shop; `follow_ups`: ids of follow-up items in
    the same shop; `companion`: in the other one.
    """

    item_id: str
    domain: str
    interest: str
    topic: str
    title: str
    brand: str | None
    categories: list[str] | None
    price: float | None
    description: str | None
    weight: float
    follow_ups: tuple[str, ...]
    companion: str | None


class _Product(Strict):
    name: str
    price: float
    text: str


class _Series(Strict):
    name: str
    volumes: list[str]


class _Topic(Strict):
    name: str
    subjects: list[str]
    gear: list[_Product]
    series: _Series
    books: list[str]


class _Interest(Strict):
    name: str
    brands: list[str]
    topics: list[_Topic]


@dataclass(frozen=True, slots=True)
class _Draft:
    """An item before blemishes; `step` orders a topic's items as people buy them."""

    step: int
    line: str
    title: str
    brand: str
    categories: list[str]
    price: float
    description: str


_Choice = tuple[int, str, str]


def stock_shops(seed: int, count: int) -> list[DemoItem]:
    """`count` items, gear first, half of them gear, spread evenly over all topics.

    An item that two seeds share has the same id in both. Raises ImpossibleCatalogueSizeError.
    """
    interests = _read_interests()
    places = [(interest, topic) for interest in interests for topic in interest.topics]
    if count < 2 * len(places):
        raise ImpossibleCatalogueSizeError(
            f"{count} items leave topics empty; ask for {2 * len(places)}"
        )
    items: list[DemoItem] = []
    shelves: dict[tuple[str, str], list[_Draft]] = {}
    for domain, share in ((GEAR, count - count // 2), (BOOKS, count // 2)):
        for place, (interest, topic) in enumerate(places):
            quota = share // len(places) + (place < share % len(places))
            generator = random.Random(f"{seed}/{domain}/{topic.name}")
            draft = _draft_gear if domain == GEAR else _draft_books
            shelves[domain, topic.name] = draft(generator, interest, topic, quota)
    for (domain, topic_name), shelf in shelves.items():
        interest = next(i for i, topic in places if topic.name == topic_name)
        other = shelves[BOOKS if domain == GEAR else GEAR, topic_name]
        items += _finish(seed, domain, interest.name, topic_name, shelf, other)
    return items


def _read_interests() -> list[_Interest]:
    folder = files("tasks.demo").joinpath("catalogue")
    paths = sorted((path for path in folder.iterdir() if path.name.endswith(".toml")), key=str)
    return [_Interest.model_validate(tomllib.loads(path.read_text("utf-8"))) for path in paths]


def _draft_gear(
    generator: random.Random, interest: _Interest, topic: _Topic, quota: int
) -> list[_Draft]:
    """Every product once, then a second maker or line of some, until the quota is full."""
    maker = generator.choice(interest.brands)
    chosen = [(step, maker, "") for step in range(len(topic.gear))]
    others = [
        (step, brand, line)
        for step in range(len(topic.gear))
        for brand in interest.brands
        for line in dict.fromkeys(_LINES)
        if (brand, line) != (maker, "")
    ]
    generator.shuffle(others)
    # Competing items without a product line first; lines such as "Classic" follow.
    others.sort(key=lambda other: other[2] != "" and generator.random() < 0.5)
    return [
        _gear_draft(interest, topic, *choice) for choice in _take(chosen + others, quota, topic)
    ]


def _gear_draft(interest: _Interest, topic: _Topic, step: int, brand: str, line: str) -> _Draft:
    product = topic.gear[step]
    title = " ".join(filter(None, (brand, line, product.name)))
    # Facts hang on the title, not on the dump's seed: one id means one item in every dump.
    generator = random.Random(title)
    price = round(product.price * generator.uniform(0.85, 1.25)) - generator.choice((0.01, 0.5, 0))
    closing = generator.choice(_GEAR_CLOSINGS).format(brand=brand, topic=_in_sentence(topic.name))
    return _Draft(
        step=step,
        line=brand,
        title=title,
        brand=brand,
        categories=[interest.name, topic.name],
        price=round(price, 2),
        description=f"{product.text}. {closing}",
    )


def _draft_books(
    generator: random.Random, interest: _Interest, topic: _Topic, quota: int
) -> list[_Draft]:
    """The topic's series whole, then single books in a seeded order until the quota is full."""
    series = topic.series
    volumes = [
        (step, series.name, f"{title} ({series.name}, Book {step + 1})")
        for step, title in enumerate(series.volumes)
    ]
    made = [
        pattern.format(subject=_title_case(subject))
        for pattern in _BOOK_PATTERNS
        for subject in topic.subjects
        # "The Little Book of the Marathon" reads well; "Better the Marathon" does not.
        if not subject.startswith("the ") or pattern.endswith("of {subject}")
    ]
    made = [title[0].upper() + title[1:] for title in made]
    generator.shuffle(made)
    singles = topic.books + made[:4]
    generator.shuffle(singles)
    ordered = [(step, "", title) for step, title in enumerate(singles + made[4:])]
    return [
        _book_draft(interest, topic, *choice) for choice in _take(volumes + ordered, quota, topic)
    ]


def _book_draft(interest: _Interest, topic: _Topic, step: int, line: str, title: str) -> _Draft:
    generator = random.Random(line or title)  # a series has one author and one publisher
    publisher = generator.choice(_PUBLISHERS)
    author = f"{generator.choice(_FIRST_NAMES)} {generator.choice(_LAST_NAMES)}"
    generator = random.Random(title)
    text = generator.choice(_BOOK_DESCRIPTIONS).format(
        author=author, subject=generator.choice(topic.subjects), n=generator.randrange(40, 320)
    )
    return _Draft(
        step=step,
        line=line,
        title=title,
        brand=publisher,
        categories=[interest.name, topic.name],
        price=generator.randrange(8, 39) + generator.choice((0.99, 0.95, 0.5)),
        description=text[0].upper() + text[1:],
    )


def _take(choices: list[_Choice], quota: int, topic: _Topic) -> list[_Choice]:
    if quota > len(choices):
        raise ImpossibleCatalogueSizeError(
            f"the topic {topic.name!r} has {len(choices)} different items, {quota} were asked for; "
            "ask for fewer items or add titles to tasks/demo/catalogue"
        )
    return choices[:quota]


def _finish(
    seed: int, domain: str, interest: str, topic: str, shelf: list[_Draft], other: list[_Draft]
) -> list[DemoItem]:
    generator = random.Random(f"{seed}/blemishes/{domain}/{topic}")
    ranks = generator.sample(range(1, len(shelf) + 1), len(shelf))
    other_domain = BOOKS if domain == GEAR else GEAR
    finished: list[DemoItem] = []
    for draft, rank in zip(shelf, ranks, strict=True):
        title_only = generator.random() < _TITLE_ONLY
        no_price = title_only or generator.random() < _NO_PRICE
        no_text = title_only or generator.random() < _NO_DESCRIPTION
        companion = other[draft.step % len(other)].title if other else None
        item = DemoItem(
            item_id=_item_id(domain, draft.title),
            domain=domain,
            interest=interest,
            topic=topic,
            title=_blemish(generator, draft.title),
            brand=None if title_only else draft.brand,
            categories=None if title_only else draft.categories,
            price=None if no_price else draft.price,
            description=None if no_text else draft.description,
            weight=rank**-_ZIPF_EXPONENT,
            follow_ups=tuple(_item_id(domain, next_.title) for next_ in _follow_ups(draft, shelf)),
            companion=None if companion is None else _item_id(other_domain, companion),
        )
        finished.append(item)
    return finished


def _follow_ups(draft: _Draft, shelf: list[_Draft]) -> list[_Draft]:
    """The next step's items, those of the same maker or series first, at most two."""
    last = max(other.step for other in shelf)
    step = (draft.step + 1) % (last + 1)
    following = [other for other in shelf if other.step == step and other is not draft]
    return sorted(following, key=lambda other: other.line != draft.line)[:2]


def _blemish(generator: random.Random, title: str) -> str:
    """Some titles carry the HTML entities that exports of web shops are full of."""
    if generator.random() >= _ENTITY_SHARE:
        return title
    return title.replace("&", "&amp;").replace("'", "&#39;")


def _title_case(phrase: str) -> str:
    words = phrase.split(" ")
    return " ".join(word if word in _SMALL_WORDS else word[0].upper() + word[1:] for word in words)


def _in_sentence(heading: str) -> str:
    return " ".join(word if word in _PROPER else word.lower() for word in heading.split(" "))


def _item_id(domain: str, title: str) -> str:
    digest = hashlib.blake2b(f"{domain}/{title}".encode(), digest_size=5).hexdigest()
    return f"{domain[0].upper()}{digest.upper()}"
