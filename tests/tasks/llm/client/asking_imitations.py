"""Asks an imitated server, and checks that what comes is what that server meant."""

from collections.abc import Iterable

from artifacts.ledger.answers import Answer, Role
from prompts.render import ChatPrompt, Message
from tasks.llm.client.ask import complete, embed
from tasks.llm.client.jobs import ChatRequest, EmbeddingRequest, Failure, Outcome
from tasks.llm.settings.llm_config import EndpointSpec
from tests.imitated_providers import Case
from tests.imitated_servers import WORDS, Books, vector_of

KEY_VARIABLE = "LLM4CDSR_API_KEY"


def spec_at(
    books: Books,
    role: Role = Role.CHAT,
    case: Case | None = None,
    *,
    concurrency: int = 8,
    batch_size: int = 64,
    max_retries: int = 6,
    outage_seconds: float = 60.0,
    timeout_seconds: float = 20.0,
) -> EndpointSpec:
    """A spec as the configuration makes it: with a temperature for questions."""
    fields = (
        dict(case.chat_parameters if role is Role.CHAT else case.embed_parameters) if case else {}
    )
    usual = {"temperature": 0.2} if role is Role.CHAT else {}
    return EndpointSpec(
        role=role,
        base_url=books.base_url + (case.query if case else ""),
        model="m",
        concurrency=concurrency,
        timeout_seconds=timeout_seconds,
        max_retries=max_retries,
        batch_size=1 if role is Role.CHAT else (case.batch_size if case else batch_size),
        outage_seconds=outage_seconds,
        key_variable=KEY_VARIABLE,
        parameters={**usual, **fields},
        fixed_fields=tuple(fields),
    )


def ask(
    texts: Iterable[str], spec: EndpointSpec, outcomes: list[Outcome] | None = None
) -> tuple[list[Answer], list[Failure]]:
    """Answers and failures; every answer is checked, and that no text has two outcomes."""
    found = [] if outcomes is None else outcomes
    if spec.role is Role.CHAT:
        complete([question(text) for text in texts], spec, found.extend)
    else:
        embed([EmbeddingRequest(text, text) for text in texts], spec, found.extend)
    assert len({outcome.key for outcome in found}) == len(found)
    answers = [outcome for outcome in found if isinstance(outcome, Answer)]
    for answer in answers:
        assert_right(answer)
    return answers, [outcome for outcome in found if isinstance(outcome, Failure)]


def question(text: str) -> ChatRequest:
    system = Message(role="system", content="You describe a person.")
    turns = (Message(role="user", content="Who?"), Message(role="assistant", content="They."))
    last = Message(role="user", content=text)
    return ChatRequest(text, ChatPrompt(messages=(system, *turns, last)), 80, 50)


def assert_right(answer: Answer) -> None:
    if answer.vector is None:
        assert answer.text == WORDS
    else:
        assert answer.vector.tolist() == vector_of(answer.key)
