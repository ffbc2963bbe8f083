"""Inputs of fuzzes: made by chance, counted, and each to be had again by its number.

A plugin of pytest: the marker `fuzz`, the fixture `inputs`, and the profiles of hypothesis.
"""

import os
from collections.abc import Callable, Generator, Iterator
from functools import wraps
from random import Random

import pytest
from hypothesis import HealthCheck, settings

FUZZED = int(os.environ.get("FUZZ_INPUTS", "100000"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
"""Number of the first input: `FUZZ_FIRST=512` tries the input that was said to have failed."""

CHEAP = 8
"""Plain inputs for each example of hypothesis', which takes ten times as long."""

# A loaded machine is slow; what a test says must not depend on it.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("short", UNTIMED, max_examples=25)
settings.register_profile("long", UNTIMED)
settings.register_profile("soak", UNTIMED)
settings.register_profile("fuzz", UNTIMED, max_examples=FUZZED, database=None)
settings.load_profile("short")


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


_INPUTS = pytest.StashKey[Inputs]()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have the marker, and the inputs that fit the profile, once the profile is chosen."""
    config.addinivalue_line("markers", "fuzz: tries 100,000 inputs in `make fuzz`")
    examples = settings.default.max_examples
    wanted = examples if examples >= FUZZED else CHEAP * examples
    config.stash[_INPUTS] = Inputs(str(config.getoption("--hypothesis-seed") or 0), wanted)


@pytest.fixture(scope="session")
def inputs(pytestconfig: pytest.Config) -> Inputs:
    """The inputs that a fuzz tries, and their count."""
    return pytestconfig.stash[_INPUTS]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Keep the count of a fuzz's inputs among the properties of its report.

    Of a test of hypothesis' each call is an input, unless the test counts for itself.
    """
    if item.get_closest_marker("fuzz") is None:
        return (yield)
    inputs = item.config.stash[_INPUTS]
    inputs.begin(item.name)
    drawn = getattr(getattr(item, "obj", None), "hypothesis", None)
    own = "inputs" in getattr(item, "fixturenames", ())
    test = getattr(drawn, "inner_test", None)
    if test is not None and not own:
        drawn.inner_test = _counting(test, inputs)
    try:
        return (yield)
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
