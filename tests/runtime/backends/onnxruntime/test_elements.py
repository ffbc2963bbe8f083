"""ONNX's numbers of NumPy's types."""

import numpy as np
import pytest

from runtime.backends.onnxruntime.elements import NUMPY_TYPES, element_type
from runtime.errors import BackendError


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float32", 1), ("uint8", 2), ("int64", 7), ("bool", 9), ("float16", 10)],
)
def test_a_type_has_its_number(dtype: str, expected: int) -> None:
    assert element_type(np.dtype(dtype)) == expected
    assert NUMPY_TYPES[expected] == dtype


@pytest.mark.parametrize("dtype", ["float64", "uint16"])
def test_a_type_that_no_graph_of_ours_takes_is_refused(dtype: str) -> None:
    """uint16 stands for bf16 where a graph makes some; an array of integers is no bf16."""
    with pytest.raises(BackendError, match=rf"{dtype}, expected one of float32, .*, float16;"):
        element_type(np.dtype(dtype))
