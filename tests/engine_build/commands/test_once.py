"""That a command opens and hashes a package once, and draws its reference once.

The commands are the real ones; the GPU is a stand-in, whose engines run on the CPU.
"""

import shutil
from argparse import ArgumentParser
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx_ir as ir
import onnxruntime
import pytest

from engine_build.commands import compile as compile_command
from engine_build.commands import verify as verify_command
from engine_build.target import capture, device, reference
from engine_build.target.onnxruntime_cuda import engine as onnxruntime_engine
from engine_build.target.onnxruntime_cuda.check import _Runner
from engine_build.target.onnxruntime_cuda.definitions import define_operators
from engine_build.target.unfused import CPU, Place, UnfusedSession
from engine_build.target.verify import OpenEngine
from runtime.backends.devices import Devices, Gpu
from runtime.backends.protocol import Array
from runtime.package import hashes
from runtime.package.hashes import HASHES_NAME, KnownHashes
from runtime.package.manifest import ModelPackage, read_manifest
from runtime.package.target import FOLDER, Target
from runtime.plan.model import open_model
from tests.places import ENGINES

HERE = Devices((Gpu("stand-in", "sm_90", 10**12, "13.0"),), "")
DEVICE = Place(CPU.provider, {"stands": "for a device"})


@dataclass(frozen=True)
class Engine:
    """A compiled graph, run on the CPU."""

    runner: _Runner

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return self.runner.run(inputs)

    def milliseconds(self, inputs: dict[str, Array]) -> float:
        return float(len(inputs))

    def close(self) -> None:
        """Nothing is kept."""


class Machine:
    """A package on which a command's work is counted."""

    def __init__(self, engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engines = engines
        self.hashed: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self.drawn = 0
        self.checked: list[str] = []
        self._patch = monkeypatch
        package = engines / "demo"
        read, of_role = KnownHashes.read, UnfusedSession.of_role
        draw, check = reference.captured_calls, onnxruntime_engine.check_compiled

        def hashing(known: KnownHashes, path: Path, *rest: Any) -> str:
            if path.parent == package:
                self.hashed[path.name] += 1
            return read(known, path, *rest)

        def opening(of: ModelPackage, role: str, place: Place) -> UnfusedSession:
            self.opened[role] += 1
            return of_role(of, role, place)

        def drawing(*arguments: Any) -> Any:
            self.drawn += 1
            return draw(*arguments)

        def checking(of: ModelPackage, role: str, *rest: Any) -> Any:
            self.checked.append(role)
            return check(of, role, *rest)

        monkeypatch.setattr(KnownHashes, "read", hashing)
        # A copy is new, and hashes of new files are not kept.
        monkeypatch.setattr(hashes, "SETTLED_NS", 0)
        monkeypatch.setattr(capture.UnfusedSession, "of_role", opening)
        monkeypatch.setattr(reference, "captured_calls", drawing)
        monkeypatch.setattr(onnxruntime_engine, "check_compiled", checking)

    def has_gpu(self, place: Place) -> None:
        """A GPU of sm_90; the reference is drawn in `place`."""
        for command in (compile_command, verify_command):
            self._patch.setattr(command, "find_devices", lambda: HERE)
        self._patch.setattr(reference, "place_here", lambda _: place)
        self._patch.setattr(device, "device_opener", self._opener)

    def run(self, command: ModuleType, *arguments: str) -> None:
        parser = ArgumentParser()
        command.configure(parser)
        command.run(parser.parse_args([*arguments, "--engines", str(self.engines)]))

    @property
    def files(self) -> Counter[str]:
        """Each of the package's files, once."""
        return Counter(read_manifest(self.engines / "demo")[0].files.keys())

    @staticmethod
    def _opener(package: ModelPackage, _: Gpu) -> Any:
        def opened(target: Target, role: str) -> OpenEngine:
            prelude = target.prelude(role)
            paths = [*([prelude] if prelude else []), target.engine(role)]
            models = [ir.load(path) for path in paths]
            for model in models:
                define_operators(model)
            engine: Any = Engine(_Runner(role, models, package.weights_folder(role)))
            found: OpenEngine = engine
            return found

        return opened


ROLES = ["denoiser", "preview_decoder", "text_encoder", "text_encoder_2", "vae_decoder"]
OPENED = Counter({**dict.fromkeys(ROLES, 1), "text_encoder": 2, "text_encoder_2": 2})
"""Two prompts go through two text encoders in turns."""
ASKED = ("demo", "--backend", "onnxruntime-cuda", "--precision", "fp16", "--sizes", "64x64,64x96")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    shutil.copytree(
        ENGINES / "demo", tmp_path / "demo", ignore=shutil.ignore_patterns(FOLDER, HASHES_NAME)
    )
    return Machine(tmp_path, monkeypatch)


def test_compiling_for_two_gpus_with_none_here(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.run(compile_command, *ASKED, "--gpu", "sm_89,sm_90")
    assert machine.hashed == machine.files
    assert machine.drawn == 1
    assert machine.opened == OPENED
    assert machine.checked == 2 * ROLES
    said = capsys.readouterr()
    assert said.out.count("not verified yet; on its GPU: engine-build verify demo") == 2
    assert said.err.count("the reference is drawn in fp32 on the CPU, one network at a time") == 1
    # And before it began.
    assert said.err.index("the reference is drawn") < said.err.index("reference: text_encoder")


def test_compiling_for_the_gpu_that_is_here_and_another(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.has_gpu(DEVICE)
    machine.run(compile_command, *ASKED, "--gpu", "sm_90,sm_89", "--quiet")
    assert machine.hashed == machine.files
    assert machine.drawn == 1
    assert machine.opened == OPENED
    # The one that is verified next is not run on the CPU before.
    assert machine.checked == ROLES
    said = capsys.readouterr()
    here, other = (line for line in said.out.splitlines() if line.startswith("onnxruntime-cuda"))
    assert "sm_90" in here
    assert here.endswith(": verified")
    assert "not verified yet" in other
    assert said.err == ""


def test_what_compiling_hashed_is_hashed_neither_by_verifying_nor_by_serving(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a GPU whose ONNX Runtime is one for the CPU alone. Verifying draws once too."""
    machine.run(compile_command, *ASKED, "--gpu", "sm_90", "--quiet")
    name = capsys.readouterr().out.split(":")[0]
    machine.has_gpu(CPU)
    machine.hashed.clear()
    machine.drawn = 0
    machine.run(verify_command, "demo", name)
    for _ in ("the server", "its worker"):
        open_model(machine.engines, "demo")
    assert machine.hashed == Counter()
    assert machine.drawn == 1
    said = capsys.readouterr()
    assert "verified" in said.out
    assert "the reference is drawn in fp32 on the CPU" in said.err


def test_where_the_reference_is_on_the_cpu_its_compiled_graph_is_held_to_it_as_well(
    machine: Machine,
) -> None:
    machine.has_gpu(CPU)
    machine.run(compile_command, *ASKED, "--gpu", "sm_90", "--quiet")
    assert machine.checked == ROLES
    assert machine.drawn == 1


def test_the_stand_in_is_one_that_onnx_runtime_takes() -> None:
    assert DEVICE.provider in onnxruntime.get_available_providers()
    assert DEVICE.on_device
    assert not CPU.on_device
