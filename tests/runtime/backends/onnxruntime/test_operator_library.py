"""The committed library of our operators: made of the sources, loaded where a graph needs it."""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path
from platform import machine

import onnx
import pytest

from runtime.backends.onnxruntime import operator_library
from runtime.backends.onnxruntime.operator_library import LIBRARY, register_operators
from runtime.errors import BackendError
from scripts.compile_kernels import OPERATORS, architecture, compiled
from scripts.compile_operators import compile_library, sources
from tests.fakes.custom_operators import Api, CustomOperator
from tests.places import ROOT

COMMITTED = OPERATORS / "operators-linux-x86_64.so"
SOURCES = sorted(OPERATORS.glob("*.cu"))

here = pytest.mark.skipif(
    (sys.platform, machine()) != ("linux", "x86_64"), reason="the library is for x86_64 Linux"
)


def model(domain: str) -> bytes:
    text = f"""<ir_version: 10, opset_import: ["" : 21, "{domain}" : 1]>
        calotype (float[1] x) => (float[1] y) {{ y = Identity(x) }}"""
    return onnx.parser.parse_model(text).SerializeToString()


class Options:
    """The options of a session."""

    def __init__(self) -> None:
        self.libraries: list[str] = []

    def register_custom_ops_library(self, path: str) -> None:
        self.libraries.append(path)


def made_of(library: Path) -> str:
    return (ctypes.c_char * 64).in_dll(ctypes.CDLL(str(library)), "calotype_sources").value.decode()


@here
def test_the_committed_library_is_made_of_the_sources() -> None:
    assert made_of(COMMITTED) == sources(), "run: python -m scripts.compile_operators"


@here
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_the_library_is_compiled_by_gcc_alone(tmp_path: Path) -> None:
    compile_library(tmp_path / "made.so")
    assert made_of(tmp_path / "made.so") == sources()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_the_committed_ptx_is_what_the_source_gives(source: Path) -> None:
    assert source.with_suffix(".ptx").read_bytes() == compiled(source), (
        "run: python -m scripts.compile_kernels, and then python -m scripts.compile_operators"
    )


@pytest.mark.parametrize(
    ("source", "gpu"),
    [
        (source, gpu)
        for source in SOURCES
        for gpu in ("sm_75", "sm_80", "sm_90")
        if gpu[3:] >= architecture(source).removeprefix("compute_")
    ],
    ids=lambda each: each.name if isinstance(each, Path) else each,
)
def test_every_generation_of_gpus_takes_the_kernels(source: Path, gpu: str) -> None:
    code = compiled(source, gpu)
    assert code.startswith(b"\x7fELF")
    names = re.findall(r"\.visible \.entry (\w+)\(", source.with_suffix(".ptx").read_text())
    assert len(names) in (6, 12)
    assert all(f".text.{name}\0".encode() in code for name in names)


@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")
def test_the_library_asks_an_old_system_for_nothing_new() -> None:
    command = ["objdump", "-p", "-T", str(COMMITTED)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert set(re.findall(r"NEEDED +(\S+)", told)) == {"libc.so.6"}
    assert set(re.findall(r"GLIBC_[0-9.]+", told)) == {"GLIBC_2.2.5"}


@here
def test_the_operators_are_declared_for_the_cuda_provider() -> None:
    api = Api(COMMITTED)
    assert api.domains == ["calotype"]
    for name, inputs, outputs in (
        ("GatedSumNorm", 8, 2),
        ("RotatedHeads", 8, 1),
        ("GatedActivation", 5, 1),
    ):
        declared = api.declared(name)
        assert [_of(each, "output_type", 0) for each in declared] == [1, 10, 16]
        for each in declared:
            assert _of(each, "provider") == b"CUDAExecutionProvider"
            assert (_of(each, "input_count"), _of(each, "output_count")) == (inputs, outputs)
            required = [not _of(each, "input_characteristic", i) for i in range(inputs)]
            assert required == [True] + [False] * (inputs - 1)
    tables = [_of(api.declared("RotatedHeads")[2], "input_type", i) for i in range(8)]
    assert tables == [16] * 6 + [1, 1]


def _of(operator: CustomOperator, what: str, *arguments: int) -> object:
    return getattr(operator, what)(ctypes.addressof(operator), *arguments)


IN_ANOTHER_PROCESS = """
import sys
import onnxruntime
from runtime.backends.onnxruntime.operator_library import register_operators
graph = sys.stdin.buffer.read()
options = onnxruntime.SessionOptions()
register_operators(options, graph)
print(onnxruntime.InferenceSession(graph, options).run(None, {"x": [1.5]}))
"""


@here
def test_onnx_runtime_without_cuda_takes_the_library_too() -> None:
    # In this process it belongs to the stand-in already, and a library has one domain for all.
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS]
    done = subprocess.run(
        command, input=model("calotype"), capture_output=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"1.5" in done.stdout


def test_only_a_graph_with_our_operators_gets_them() -> None:
    options = Options()
    register_operators(options, model("com.microsoft"))
    assert options.libraries == []
    register_operators(options, model("calotype"))
    assert options.libraries == [str(LIBRARY)]


def test_a_machine_without_the_library_is_told_how_to_make_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(operator_library, "LIBRARY", tmp_path / "operators-linux-riscv64.so")
    register_operators(Options(), model("com.microsoft"))
    with pytest.raises(BackendError, match=r"riscv64\.so: not found; .*scripts\.compile_operators"):
        register_operators(Options(), model("calotype"))
