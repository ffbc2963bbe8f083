"""Stored numbers against PyTorch's, which wrote most files of the field."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from runtime.package.tensors import map_tensors, stored

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def test_a_number_beyond_fp32_is_infinite(tmp_path: Path) -> None:
    save_file({"x": torch.tensor([1e300, -1e300, 1.5], dtype=torch.float64)}, tmp_path / "file")
    read = map_tensors(tmp_path / "file")["x"].fp32()
    np.testing.assert_array_equal(read, np.float32([np.inf, -np.inf, 1.5]))


@pytest.mark.parametrize("name", DTYPES)
def test_numbers_are_read_and_rounded_as_pytorch_does(name: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    exact = torch.cat([torch.randn(1000, generator=generator) * 100, torch.tensor([0.0, -0.0])])
    # Halfway between two bf16 numbers, one with an even neighbour below and one above.
    ties = torch.tensor([0x3F808000, 0x3F818000], dtype=torch.int32).view(torch.float32)
    exact = torch.cat([exact, ties]).reshape(-1, 2)
    expected = exact.to(DTYPES[name])
    save_file({"x": expected, "one": torch.tensor(2.5, dtype=DTYPES[name])}, tmp_path / "file")
    tensors = map_tensors(tmp_path / "file")
    assert tensors["one"].fp32() == np.float32(2.5)
    np.testing.assert_array_equal(tensors["x"].fp32(), expected.float().numpy())
    bits = expected.view(torch.int32 if name == "F32" else torch.int16).numpy()
    np.testing.assert_array_equal(stored(exact.numpy(), name).view(bits.dtype), bits)
