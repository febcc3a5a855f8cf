"""Reasoning in the text of an answer: removed in every form, and never taken for the answer."""

import contextlib
import time

import pytest

from tasks.llm.client.checks.reasoning import UnfinishedReasoningError, without_reasoning

TEXT = "The person likes oats."


@pytest.mark.parametrize(
    "said",
    [
        TEXT,
        f"  {TEXT}\n",
        f"<think>\nOkay, the user wants\n</think>\n\n{TEXT}",
        f"Okay, so\n</think>\n{TEXT}",
        f"<think></think>{TEXT}",
        f"<think>a</think>\n<think>b</think>{TEXT}",
        f"<think>a<think>b</think>c</think>{TEXT}",
        f"<THINK>a</Think>{TEXT}",
        f"<thinking>a</thinking>{TEXT}",
        f"<thought>a</thought>{TEXT}",
        f"<reasoning effort='low'>a</reasoning>{TEXT}",
        f"<seed:think>a</seed:think>{TEXT}",
        f"< think >a</ think >{TEXT}",
        f"<think/>{TEXT}",
        f"[THINK]a[/THINK]{TEXT}",
        f"◁think▷a◁/think▷{TEXT}",
        f"<|begin_of_thought|>a<|end_of_thought|><|begin_of_solution|>{TEXT}<|end_of_solution|>",
        f"<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>{TEXT}<|END_RESPONSE|>",
        f"<think>a</think><answer>{TEXT}</answer>",
        f"<final>{TEXT}</final>",
        f'<details type="reasoning" done="true"><summary>Thought</summary>a</details>\n{TEXT}',
        f"{TEXT}<|im_end|>",
        f"{TEXT}<|eot_id|>\n<|im_start|>user\nAnd now?",
        f"{TEXT}<|im_end|>\n<|im_start|>assistant\nMore",
        f"{TEXT}<end_of_turn>\n<start_of_turn>user\nAnd now?",
        f"{TEXT}</s><s>And now?",
        f"{TEXT}<｜end▁of▁sentence｜>",
        f"<|im_start|>assistant\n{TEXT}<|im_end|>",
        f"<|start_header_id|>assistant<|end_header_id|>\n\n{TEXT}<|eot_id|>",
        f"<|im_end|>{TEXT}",
        f"<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>{TEXT}"
        "<|return|>",
        f"<|channel|>final <|constrain|>text<|message|>{TEXT}",
        f"a<|end|><|start|>assistant<|channel|>final<|message|>{TEXT}",
        f"analysisWe need one sentence.assistantfinal{TEXT}",
        f'analysis"Who" is it? assistantfinal {TEXT}',
        f"Here is my thought process: a Here is my response: {TEXT}",
        f"Here's my thought process:\na\nHere's my response:\n{TEXT}",
    ],
)
def test_the_text_after_the_reasoning_is_the_answer(said: str) -> None:
    assert without_reasoning(said) == TEXT


@pytest.mark.parametrize(
    "said",
    [
        "<think>\nOkay, so I need to figure out",
        "Sure!\n<think>\nOkay",
        "<think>a</think>b<think>c",
        "<thinking>a",
        "[THINK]a",
        "◁think▷a",
        "<|begin_of_thought|>a",
        "<reasoning>a",
        "<|channel|>analysis<|message|>We need",
        "<|start|>assistant<|channel|>commentary<|message|>We need",
        '<details type="reasoning"><summary>Thought</summary>We need',
        "analysisWe need to describe the person",
        "Here is my thought process: the titles are",
    ],
)
def test_reasoning_that_does_not_end_is_no_answer(said: str) -> None:
    with pytest.raises(UnfinishedReasoningError):
        without_reasoning(said)


@pytest.mark.parametrize(
    "said",
    [
        "Analysis of titles: the person likes maps.",
        "The person likes books on analysis (and [think tanks]).",
        "They think 3 < 4 and 5 > 2.",
        "Final fantasy games; assistant manager manuals.",
        "<b>oats</b> and pans",
        "I ♥ oats",
    ],
)
def test_an_answer_that_only_speaks_of_such_things_is_left_alone(said: str) -> None:
    assert without_reasoning(said) == said


def test_an_answer_that_is_all_reasoning_leaves_nothing() -> None:
    assert without_reasoning("<think>a</think>") == ""
    assert without_reasoning("a</think>\n") == ""


@pytest.mark.parametrize(
    "said",
    [
        "<details reasoning>" * 50_000,
        "<details " + "reasoning " * 50_000,
        "<details reasoning" * 50_000,
        "<|channel|>x" * 50_000,
        "<|channel|>x<|message|>" * 50_000,
        "<|channel|>!<|message|>" + "<|channel|>x" * 50_000,
        "<think " * 50_000,
        "<s>" + "< " * 100_000,
        "Here's my thought process:" + "Here's my respons" * 50_000,
        "analysisA" + "assistant " * 50_000,
    ],
    ids=range(10),
)
def test_a_text_of_openings_without_an_end_takes_little_time(said: str) -> None:
    began = time.process_time()
    with contextlib.suppress(UnfinishedReasoningError):
        without_reasoning(said)
    assert time.process_time() - began < 3


def test_channels_are_read_in_their_order() -> None:
    first = "<|channel|>analysis<|channel|>final<|message|>not this<|end|>"
    said = f"{first}<|channel|>final json<|message|>{TEXT}<|return|><|channel|>final"
    assert without_reasoning(said) == TEXT
