"""The names of the fake of TensorRT are in the real binary, with the same parameters."""

import inspect
import re

import pytest
import tensorrt_rtx as real

from tests.fakes.tensorrt import (
    FakeAllocation,
    FakeContext,
    FakeDataType,
    FakeEngine,
    FakeLocation,
    FakeLogger,
    FakeMode,
    FakeRefitter,
    FakeRuntime,
    FakeRuntimeCache,
    FakeRuntimeConfig,
    FakeSpecialization,
)

CLASSES: dict[str, type] = {
    "IExecutionContext": FakeContext,
    "ICudaEngine": FakeEngine,
    "ILogger": FakeLogger,
    "Refitter": FakeRefitter,
    "Runtime": FakeRuntime,
    "IRuntimeCache": FakeRuntimeCache,
    "IRuntimeConfig": FakeRuntimeConfig,
}
ENUMERATIONS: dict[str, type] = {
    "DataType": FakeDataType,
    "TensorIOMode": FakeMode,
    "TensorLocation": FakeLocation,
    "ExecutionContextAllocationStrategy": FakeAllocation,
    "DynamicShapesKernelSpecializationStrategy": FakeSpecialization,
}
OWN = {"run"}
"""Names that only the fake's own classes call."""

MEMBERS = [
    (vendor, name)
    for vendor, fake in CLASSES.items()
    for name in vars(fake)
    if not name.startswith("_") and name not in OWN
]


@pytest.mark.parametrize(("vendor", "name"), MEMBERS)
def test_a_member_is_the_real_ones(vendor: str, name: str) -> None:
    genuine = getattr(getattr(real, vendor), name)
    fake = getattr(CLASSES[vendor], name)
    if not inspect.isfunction(fake):
        return
    overloads = re.findall(rf"\b{name}\((.*?)\) ->", genuine.__doc__)
    taken = {match for each in overloads for match in re.findall(r"(\w+): ", each)}
    assert set(inspect.signature(fake).parameters) <= taken, overloads


@pytest.mark.parametrize("vendor", ENUMERATIONS)
def test_an_enumeration_has_the_real_ones_names(vendor: str) -> None:
    assert set(ENUMERATIONS[vendor].__members__) <= set(getattr(real, vendor).__members__)


def test_weights_take_a_type_an_address_and_a_number() -> None:
    assert "type: " in real.Weights.__init__.__doc__
    weights = real.Weights(real.DataType.BF16, 0, 0)
    assert (weights.dtype, weights.size) == (real.DataType.BF16, 0)


def test_severities_have_the_real_ones_names() -> None:
    assert set(FakeLogger.Severity.__members__) <= set(real.ILogger.Severity.__members__)
