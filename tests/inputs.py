"""Inputs of a fuzz: made by chance, counted, and each to be had again by its number."""

import os
from collections.abc import Callable, Generator, Iterator
from functools import wraps
from random import Random

import pytest

INPUTS = pytest.StashKey["Inputs"]()

FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
"""Number of the first input: `FUZZ_FIRST=512` tries the input that was said to have failed."""


class Inputs:
    """The inputs that one test after another tries: their number is counted, never assumed.

    A test that makes its own inputs iterates: each step gives the chance of one input, that
    depends on the test's name, the seed and the input's number alone.
    """

    def __init__(self, seed: str, wanted: int) -> None:
        self._seed = seed
        self._wanted = wanted
        self._test = ""
        self.tried = 0

    def begin(self, test: str) -> None:
        """Count from zero, for the test of this name."""
        self._test = test
        self.tried = 0

    def count(self) -> None:
        """Count one input, of a test that does not iterate."""
        self.tried += 1

    def __iter__(self) -> Iterator[Random]:
        """As many chances as are wanted, one an input."""
        for number in range(FIRST, FIRST + self._wanted):
            self.count()
            yield Random(f"{self._test} {self._seed} {number}")

    def last(self) -> str:
        """The last input, and how to have it again."""
        if not self.tried:
            return "before the first input"
        number = FIRST + self.tried - 1
        return f"input {number}; again with FUZZ_FIRST={number} --hypothesis-seed {self._seed}"


def counted(item: pytest.Item, inputs: Inputs) -> Generator[None]:
    """Run a fuzz and keep the count of its inputs among the properties of its report.

    Of a test of hypothesis' each call is an input, unless the test counts for itself.
    """
    inputs.begin(item.name)
    drawn = getattr(getattr(item, "obj", None), "hypothesis", None)
    own = "inputs" in getattr(item, "fixturenames", ())
    test = getattr(drawn, "inner_test", None)
    if test is not None and not own:
        drawn.inner_test = _counting(test, inputs)
    try:
        yield
    except Exception as error:
        if test is None:
            error.add_note(inputs.last())
        raise
    finally:
        if test is not None:
            drawn.inner_test = test
        item.user_properties.append(("inputs", inputs.tried))


def _counting(test: Callable[..., object], inputs: Inputs) -> Callable[..., object]:
    @wraps(test)
    def one(*arguments: object, **named: object) -> object:
        inputs.count()
        return test(*arguments, **named)

    return one
