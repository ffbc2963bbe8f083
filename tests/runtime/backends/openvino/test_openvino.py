"""Facts of OpenVINO that the backend rests on."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.openvino.backend import OpenVinoCpu
from runtime.backends.openvino.library import Compiling, OpenVino
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage, load_package
from runtime.package.tensors import Tensor
from tests.places import ENGINES, OPENVINO, ROOT

pytestmark = pytest.mark.usefixtures("openvino")

REPORTS_NOTHING = """
import sys
from runtime.backends.openvino.library import OpenVino
OpenVino()
told = [name for name in sys.modules if "telemetry" in name or name.startswith("openvino.tools")]
print(told)
"""


@pytest.fixture
def package() -> ModelPackage:
    return load_package(ENGINES, "demo")


def test_nothing_is_reported_to_the_vendor(tmp_path: Path) -> None:
    """OpenVINO's conversion tools report their import over the network and mark the home folder."""
    paths = os.pathsep.join([str(ROOT), *sys.path, str(OPENVINO)])
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", REPORTS_NOTHING],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_keeps_the_tools_away_is_taken_back() -> None:
    OpenVino()
    assert sys.modules.get("openvino.tools.ovc", "absent") is not None


def test_a_precision_that_the_cpu_lacks_is_refused(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = OpenVino()
    model = library.read(package.file("preview_decoder.onnx"))
    # Whatever this CPU has: one that lacks bf16 computes in fp32 and says nothing.
    narrow = property(lambda _: {"INFERENCE_PRECISION_HINT": "f32"})
    monkeypatch.setattr(Compiling, "properties", narrow)
    with pytest.raises(BackendError, match=r"computes in f32 .*, asked for bf16; draw with"):
        library.compile(model, Compiling(1, "bf16"))


def test_a_library_that_cannot_be_imported_is_an_error_of_ours(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r"^OpenVINO cannot be imported: "):
        OpenVinoCpu(package)


@pytest.mark.parametrize("prepare", [np.array, np.asfortranarray], ids=["shared", "transposed"])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_tensors_hold_the_numbers_in_every_dtype(
    dtype: str, prepare: Callable[[np.ndarray], np.ndarray]
) -> None:
    types = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
    values = prepare(np.arange(6).reshape(2, 3).astype(types[dtype]))
    values.flags.writeable = values.flags.c_contiguous
    found = OpenVino().tensor(Tensor(dtype, values))
    assert tuple(found.shape) == (2, 3)
    np.testing.assert_array_equal(np.asarray(found.data).view(types[dtype]), values)
    assert np.shares_memory(found.data, values) == values.flags.writeable
