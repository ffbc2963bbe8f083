"""Our operators for ONNX Runtime on a device: by its CUDA provider, as a graph, held to NumPy."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.device import Device
from runtime.backends.device.stream import Stream
from runtime.backends.devices import Gpu
from runtime.backends.onnxruntime.cuda_provider import PROVIDER
from runtime.backends.onnxruntime.libraries import load_cuda_libraries
from runtime.package.tensors import Tensor


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_our_operators_compute_what_they_are_defined_to(
    gpu: Gpu, dtype: str, tmp_path: Path
) -> None:
    if PROVIDER not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider")
    if dtype == "BF16" and int(gpu.compute_capability.removeprefix("sm_")) < 80:
        pytest.skip("bf16 needs compute capability 8.0")
    import onnx

    from tests.tiny.operators import NODES, OUTPUTS, Running, expected_of, given_of, model

    load_cuda_libraries()
    given, graph = given_of(dtype), tmp_path / "operators.onnx"
    onnx.save(model(NODES, OUTPUTS, given), graph)
    device = Device(Cuda())
    running = Running(device, Stream(device.cuda, urgent=True), graph, given)
    step = {"F32": 2**-18, "F16": 2**-9, "BF16": 2**-6}[dtype]
    for _ in range(3):
        running.run()
        made = running.outputs()
        for name, expected in expected_of(given).items():
            found = Tensor(dtype, made[name]).fp32()
            np.testing.assert_allclose(found, expected, rtol=step, atol=step)
    assert list(device.shortfalls) == []
