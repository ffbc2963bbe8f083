"""Every name of TensorRT's that we use, looked up in the binaries of TensorRT 10 and 11.

Neither can be imported here: their libraries want a GPU's machine. Their bindings hold each name as
a string, which a misspelt one would not find.
"""

import ast
import sys
from pathlib import Path
from types import ModuleType

import pytest
import tensorrt_rtx
import tensorrt_rtx_bindings.tensorrt_rtx

from tests.places import ROOT

USERS = (
    *(ROOT / "engine_build/target/tensorrt").glob("*.py"),
    *(ROOT / "runtime/backends/tensorrt").glob("*.py"),
)

# What TensorRT for RTX alone has; `Flavour` says where it may be used.
RTX_ONLY = {
    "REQUIRE_USER_ALLOCATION",
    "ComputeCapability",
    "num_compute_capabilities",
    "set_compute_capability",
    "DynamicShapesKernelSpecializationStrategy",
    "EAGER",
    "IRuntimeCache",
    "LAZY",
    "create_runtime_cache",
    "deserialize",
    "dynamic_shapes_kernel_specialization_strategy",
    "set_runtime_cache",
}


def binary(version: int) -> bytes:
    path = Path(sys.prefix) / f"tensorrt-{version}/tensorrt_bindings/tensorrt.so"
    assert path.is_file(), f"{path} is missing; install it with: make test"
    return path.read_bytes()


def holds(content: bytes, name: str) -> bool:
    # Linkers keep one copy of strings with a common end, so only the end is looked for.
    return name.encode() + b"\0" in content


def vendor_names() -> set[str]:
    members = {
        name: item for name, item in vars(tensorrt_rtx).items() if not isinstance(item, ModuleType)
    }
    classes = [item for item in members.values() if isinstance(item, type)]
    names = {name for each in classes for name in dir(each)} | set(members)
    content = Path(tensorrt_rtx_bindings.tensorrt_rtx.__file__).read_bytes()
    # Without those that Python code around the binary adds.
    return {name for name in names if not name.startswith("_") and holds(content, name)}


def used_names() -> set[str]:
    """Attributes and, where one is looked up by name, strings."""
    found: set[str] = set()
    for path in USERS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found & vendor_names()


def test_what_is_used_is_found() -> None:
    """The test itself: that it sees the names, and would miss one."""
    used = used_names()
    assert {"build_serialized_network", "mark_weights_refittable", "REFIT_INDIVIDUAL"} <= used
    assert {"set_compute_capability", "num_compute_capabilities"} <= used
    for version in (10, 11):
        assert not holds(binary(version), "mark_weight_refittable")


@pytest.mark.parametrize("version", [10, 11])
def test_tensorrt_has_every_name_that_we_use(version: int) -> None:
    content = binary(version)
    missing = {name for name in used_names() if not holds(content, name)}
    assert missing - RTX_ONLY == set()
    assert not {name for name in RTX_ONLY if holds(content, name)}
