"""A difference shows on which side of zero it is."""

import pytest

from tasks.frame.number_texts import signed


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0123, 3, "+0.012"),
        (-1.5, 1, "-1.5"),
        (-0.0004, 3, "-0.0004"),
        (0.00002, 3, "+0.00002"),
        (-0.0006, 3, "-0.001"),
        (-0.04, 1, "-0.04"),
        (0.0, 3, "+0.000"),
        (-0.0, 3, "+0.000"),
        (-1e-17, 4, "+0.0000"),
    ],
)
def test_a_small_difference_is_not_shown_as_a_negative_zero(
    value: float, digits: int, text: str
) -> None:
    assert signed(value, digits) == text
