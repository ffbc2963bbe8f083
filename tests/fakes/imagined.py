"""A machine with a GPU that there is not, for a program and all processes that it starts.

The fakes stand where CUDA and ONNX Runtime's CUDA provider are imported from. The provider runs
compiled graphs on the CPU: operators that the CPU lacks by their definitions, and bf16 in fp32.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import onnxruntime

from runtime.backends.onnxruntime.cuda_provider import PROVIDER
from tests.fakes.cuda import FakeCuda
from tests.fakes.onnxruntime import FakeProvider, fake_onnxruntime
from tests.places import ROOT

CPU = "CPUExecutionProvider"


def imagined_machine(folder: Path) -> Mapping[str, str]:
    """Environment of a program on that machine; `folder` is for what its processes import."""
    # Python imports it when it starts.
    start = "from tests.fakes.imagined import imagine; imagine()\n"
    (folder / "sitecustomize.py").write_text(start)
    version = onnxruntime.__version__
    installed = folder / f"onnxruntime_gpu-{version}.dist-info"
    installed.mkdir()
    facts = f"Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: {version}\n"
    (installed / "METADATA").write_text(facts)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def imagine() -> None:
    """Let this process import the fakes in the place of CUDA and ONNX Runtime."""
    cuda = FakeCuda()
    fakes = {
        "cuda.bindings.runtime": cuda,
        "cuda.bindings.driver": cuda,
        "onnxruntime": _module(cuda),
    }
    sys.modules.update(cast("dict[str, ModuleType]", fakes))


def _module(cuda: FakeCuda) -> ModuleType:
    fake = fake_onnxruntime(FakeProvider(cuda, PROVIDER))
    on_device = fake.InferenceSession

    def session(model: Any, options: Any, providers: list[Any], enable_fallback: int = 1) -> Any:
        names = [each if isinstance(each, str) else each[0] for each in providers]
        if names == [CPU]:
            return onnxruntime.InferenceSession(model, options, providers=names)
        return on_device(runnable(model), options, providers, enable_fallback)

    module = ModuleType("onnxruntime")
    module.__dict__.update(onnxruntime.__dict__)
    module.__dict__.update(fake.__dict__)
    module.__dict__["InferenceSession"] = session
    return module


def runnable(model: bytes) -> bytes:
    """A compiled graph as the CPU's provider can run it."""
    # Here, since most processes of such a machine open no session.
    import onnx
    import onnx_ir as ir

    from engine_build.target.onnxruntime_cuda.check import widen
    from engine_build.target.onnxruntime_cuda.definitions import define_operators

    found = ir.from_proto(onnx.load_from_string(model))
    define_operators(found)
    outputs = (output for node in found.graph for output in node.outputs)
    if any(each.dtype == ir.DataType.BFLOAT16 for each in outputs):
        widen(found)
    return ir.to_proto(found).SerializeToString()
