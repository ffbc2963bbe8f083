"""The weights to write: the union of those replaced before and those of the new set."""

import numpy as np
import pytest

from runtime.backends.device.replaced import ReplacedWeights
from runtime.backends.low_rank import base_of, merged
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage, read_manifest
from runtime.package.tensors import Tensor
from tests.places import ENGINES

ROLE = "text_encoder"


@pytest.fixture
def package() -> ModelPackage:
    manifest, digest = read_manifest(ENGINES / "demo")
    return ModelPackage(ENGINES / "demo", manifest, digest)


class Engine:
    """The weights of an engine, by name, as they were written."""

    def __init__(self, package: ModelPackage) -> None:
        self.own = package.tensors(ROLE)
        self.weights: dict[str, Tensor] = dict(self.own)
        self.replaced = ReplacedWeights(package, ROLE)
        self.written: list[list[str]] = []

    def replace(self, weights: dict[str, Tensor], most: int = 1000) -> None:
        """Write at most so many of them, and fail at the next."""
        with self.replaced.union(weights) as wanted:
            self.written.append(list(wanted))
            for count, (name, weight) in enumerate(wanted.items()):
                if count == most:
                    raise BackendError("no more")
                self.weights[name] = merged(weight)

    def hold(self, weights: dict[str, Tensor]) -> bool:
        """True where these weights are replaced, and no other."""
        return all(
            np.array_equal(found.values, weights.get(name, self.own[name]).values)
            for name, found in self.weights.items()
        )


def test_each_set_is_laid_on_the_packages_own(package: ModelPackage) -> None:
    engine = Engine(package)
    first, second, third = sorted(engine.own)[:3]
    one, other = (
        {name: Tensor(engine.own[name].dtype, engine.own[name].values + 1) for name in names}
        for names in ((second, first), (third, second))
    )
    for weights in (one, other, {}, one):
        engine.replace(weights)
        assert engine.hold(weights)
    assert engine.written == [
        [first, second],
        [first, second, third],
        [second, third],
        [first, second],
    ]


def test_what_failed_halfway_is_in_the_next_union(package: ModelPackage) -> None:
    engine = Engine(package)
    first, second, third = sorted(engine.own)[:3]
    weights = {
        name: Tensor(engine.own[name].dtype, engine.own[name].values + 1)
        for name in (first, second)
    }
    with pytest.raises(BackendError, match="no more"):
        engine.replace(weights, most=1)
    assert not engine.hold(weights)
    engine.replace({third: weights[first]})
    assert engine.written[-1] == [first, second, third]
    own = base_of(engine.replaced.weight(first, {}))
    np.testing.assert_array_equal(own.values, engine.own[first].values)
    engine.replace({})
    assert engine.hold({})
