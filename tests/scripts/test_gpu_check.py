"""The end of a GPU check, whatever becomes of its processes."""

import json
import os
import select
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from runtime.backends import rows
from runtime.backends.devices import Devices, Gpu
from scripts.gpu_check import BACKENDS, CUDA, Found, absent, check, grouped, table
from scripts.gpu_processes import PROCESSES, ROOT, Deadline, Outcome, Stage, Suite

TESTS = """
import os
import pytest

def test_runs(record_property):
    record_property("milliseconds", 3)

def test_fails(record_property):
    record_property("off", 7)
    raise ValueError("too far off")

@pytest.mark.skip(reason="no GPU: no driver")
def test_is_not_there():
    pass

def test_takes_the_process_with_it():
    os.abort()

def test_goes_on_behind_it():
    pass

@pytest.fixture
def torn():
    yield
    raise RuntimeError("the device is lost")

def test_is_torn_down_badly(torn):
    pass
"""

ENDS_LATE = """
import atexit, os, pytest

@pytest.fixture
def torn():
    yield
    os.abort()

def test_runs():
    pass

def test_is_torn_down_worse(torn):
    pass

def test_ends_in_order():
    atexit.register(os.abort)
"""

LOSES_THE_DEVICE = """
import pytest
from scripts.gpu_report import end_without_device

@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_breaks_it(dtype, request):
    end_without_device(request.session, request.node.nodeid, "illegal address")
    raise ValueError(dtype)

def test_goes_on_behind_it():
    pass
"""

NEVER_ENDS = """
import subprocess, sys, threading
from pathlib import Path

def test_runs():
    pass

def test_never_ends():
    left = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    Path(__file__).with_name("left").write_text(str(left.pid))
    threading.Event().wait()

def test_waits_behind_it():
    pass
"""

INTERRUPTS = """
import os, signal, threading

def test_runs():
    pass

def test_meets_an_interruption():
    os.kill(os.getppid(), signal.SIGINT)
    threading.Event().wait()

def test_waits_behind_it():
    pass
"""


def outcomes(
    folder: Path, tests: str, deadline: Deadline | None = None, test_seconds: float = 100.0
) -> list[tuple[str, str, str]]:
    """Of tests in a folder of their own: each one's name, result and detail."""
    (folder / "test_it.py").write_text(tests)
    kept: list[list[Outcome]] = []
    suite = Suite(folder, ".", test_seconds)
    found = check(
        suite, deadline or Deadline(None, 0.0), lambda known: kept.append(list(known.outcomes))
    )
    assert kept[-1] == found.outcomes
    return [(each.name.partition("::")[2], each.result, each.detail) for each in found.outcomes]


def ends(process: int) -> bool:
    """True for a process that has ended, or ends now."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 60)[0])
    finally:
        os.close(handle)


def test_a_process_that_dies_costs_the_test_that_it_died_in(tmp_path: Path) -> None:
    assert outcomes(tmp_path, TESTS) == [
        ("test_runs", "ran", "milliseconds: 3"),
        ("test_fails", "failed", "ValueError: too far off; off: 7"),
        ("test_is_not_there", "not there", "no GPU: no driver"),
        ("test_takes_the_process_with_it", "failed", "the process ended by SIGABRT"),
        ("test_goes_on_behind_it", "ran", ""),
        ("test_is_torn_down_badly", "failed", "RuntimeError: the device is lost"),
    ]


def test_a_lost_device_costs_the_test_that_lost_it(tmp_path: Path) -> None:
    assert outcomes(tmp_path, LOSES_THE_DEVICE) == [
        ("test_breaks_it[F32]", "failed", "ValueError: F32"),
        ("test_breaks_it[F16]", "failed", "ValueError: F16"),
        ("test_goes_on_behind_it", "ran", ""),
    ]


def test_a_process_that_dies_between_or_behind_its_tests_costs_none_that_ran(
    tmp_path: Path,
) -> None:
    assert outcomes(tmp_path, ENDS_LATE) == [
        ("test_runs", "ran", ""),
        ("test_is_torn_down_worse", "failed", "the process ended by SIGABRT"),
        ("test_ends_in_order", "ran", ""),
        ("test_ends_in_order, behind it", "failed", "the process ended by SIGABRT"),
    ]


def test_processes_that_die_one_after_another_are_given_up(tmp_path: Path) -> None:
    tests = (
        "import os, pytest\n@pytest.mark.parametrize('n', range(5))\ndef test_it(n): os.abort()\n"
    )
    died, ended = "the process ended by SIGABRT", f"{PROCESSES} processes ended before it"
    assert outcomes(tmp_path, tests) == [
        *((f"test_it[{n}]", "failed", died) for n in range(PROCESSES)),
        *((f"test_it[{n}]", "not there", ended) for n in range(PROCESSES, 5)),
    ]


def test_a_test_that_never_ends_costs_no_other_and_leaves_nothing(tmp_path: Path) -> None:
    assert outcomes(tmp_path, NEVER_ENDS, test_seconds=2.0) == [
        ("test_runs", "ran", ""),
        (
            "test_never_ends",
            "failed",
            "the process ended with code 1, as after 2 seconds in a test",
        ),
        ("test_waits_behind_it", "ran", ""),
    ]
    assert ends(int((tmp_path / "left").read_text()))


def test_a_file_that_cannot_be_imported_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no module of that name"):
        outcomes(tmp_path, "raise ImportError('no module of that name')")


def test_what_is_not_done_in_time_is_not_there(tmp_path: Path) -> None:
    found = outcomes(tmp_path, NEVER_ENDS, Deadline(10, time.monotonic()))
    assert found == [
        ("test_runs", "ran", ""),
        ("test_never_ends", "failed", "out of time"),
        ("test_waits_behind_it", "not there", "out of time"),
    ]
    assert ends(int((tmp_path / "left").read_text()))


def test_an_interruption_loses_nothing_that_ran(tmp_path: Path) -> None:
    assert outcomes(tmp_path, INTERRUPTS) == [
        ("test_runs", "ran", ""),
        ("test_meets_an_interruption", "failed", "interrupted"),
        ("test_waits_behind_it", "not there", "interrupted"),
    ]


def test_nothing_begins_when_the_time_is_up(tmp_path: Path) -> None:
    assert outcomes(tmp_path, NEVER_ENDS, Deadline(0, time.monotonic())) == [
        (f"test_{name}", "not there", "out of time")
        for name in ("runs", "never_ends", "waits_behind_it")
    ]


def test_a_backend_has_a_process_the_cheapest_file_first() -> None:
    names = [
        "tests/gpu/test_families.py::test_a[tensorrt-tiny]",
        "tests/gpu/test_backends.py::test_a[onnxruntime-cuda]",
        "tests/gpu/test_backends.py::test_a[tensorrt-rtx]",
        "tests/gpu/test_backends.py::test_a[tensorrt-body0]",
        "tests/gpu/test_backends.py::test_b[tensorrt]",
        "tests/gpu/test_cuda.py::test_a",
    ]
    assert list(grouped(names).items()) == [
        (CUDA, [names[5]]),
        ("tensorrt", [names[3], names[4], names[0]]),
        ("tensorrt-rtx", [names[2]]),
        ("onnxruntime-cuda", [names[1]]),
    ]
    assert grouped(names, ["tensorrt"]) == {"tensorrt": [names[3], names[4], names[0]]}
    assert grouped(names, ["tensorrt-rtx", "test_cuda"]) == {
        CUDA: [names[5]],
        "tensorrt-rtx": [names[2]],
    }


TWO_BACKENDS = """
import os
from pathlib import Path
import pytest
from scripts.gpu_report import stage

@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime-cuda"])
@pytest.mark.parametrize("number", range(2))
def test_it(backend, number):
    with stage("draw"), Path("begun").open("a") as file:
        print(backend, os.getpid(), file=file)
"""


def test_a_backend_that_is_not_here_costs_no_process_and_another_one_alone(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TWO_BACKENDS)
    suite = Suite(tmp_path, ".")
    not_here = {"tensorrt": "tensorrt is not installed"}
    found = check(suite, Deadline(None, 0.0), lambda _: None, not_here=not_here)
    absent, *there = found.outcomes
    assert absent == Outcome("tensorrt: 2 tests", "not there", "tensorrt is not installed")
    assert [each.result for each in there] == ["ran", "ran"]
    begun = (tmp_path / "begun").read_text().splitlines()
    assert len(begun) == 2
    assert len(set(begun)) == 1
    assert begun[0].startswith("onnxruntime-cuda ")


def test_each_test_and_each_stage_is_timed(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TWO_BACKENDS)
    found = check(Suite(tmp_path, "."), Deadline(None, 0.0), lambda _: None, ["tensorrt"])
    assert all(each.seconds > 0 for each in found.outcomes)
    assert [(each.name, each.count) for each in found.stages] == [
        ("collection", 1),
        ("tensorrt: start and import", 1),
        ("tensorrt: draw", 2),
        ("total", 1),
    ]
    seconds = {each.name: each.seconds for each in found.stages}
    parts = sum(each for name, each in seconds.items() if name != "total")
    assert 0 < seconds["tensorrt: draw"] < parts < seconds["total"]


def test_what_is_not_installed_or_does_not_run_here_is_known_beforehand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version(distribution: str) -> str:
        if distribution.startswith("tensorrt") and distribution != "tensorrt-rtx":
            raise PackageNotFoundError(distribution)
        return "1.0"

    monkeypatch.setattr(rows, "version", version)
    hopper = Gpu("Imagined GPU", "sm_90", 2**30, "13.0")
    found = absent(Devices((hopper,), ""))
    assert list(found) == ["tensorrt", "tensorrt-rtx"]
    assert found["tensorrt"].startswith("tensorrt is not installed")
    assert found["tensorrt-rtx"].startswith("tensorrt-rtx does not run on sm_90")
    assert absent(Devices((), "no driver")) == dict.fromkeys((CUDA, *BACKENDS), "no GPU: no driver")


def collected(code: str) -> "subprocess.CompletedProcess[str]":
    """Code that runs pytest with the arguments it is given, to collect the tests for a GPU."""
    suite = Suite(ROOT, "tests/gpu")
    python, _, _, *flags = suite.command(suite.folder, "--collect-only", "-q")
    return subprocess.run(
        [python, "-c", code, *flags],
        cwd=ROOT,
        env=suite.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_test_for_a_gpu_imports_pytorch_when_it_is_collected() -> None:
    """That would take seconds in each process."""
    code = (
        "import sys, pytest; code = pytest.main(sys.argv[1:]); "
        "found = {'torch', 'transformers', 'onnx'} & {*sys.modules}; "
        "sys.exit(str(found) if found else code)"
    )
    done = collected(code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_families.py::" in done.stdout


COMPILES = """
import os
from pathlib import Path

ENGINE = Path(os.environ["GPU_CHECK_ENGINES"], "engine")

def test_compiles_and_dies():
    ENGINE.touch()
    os.abort()

def test_finds_it():
    assert ENGINE.exists()
"""


def test_what_one_process_compiled_is_there_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(COMPILES)
    (tmp_path / "engines").mkdir()
    suite = Suite(tmp_path, ".", engines=tmp_path / "engines")
    found = check(suite, Deadline(None, 0.0), lambda _: None)
    assert [each.result for each in found.outcomes] == ["failed", "ran"]


def test_packages_that_cannot_be_built_are_told_and_what_ran_stays(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TWO_BACKENDS + "\ndef test_cuda():\n    pass\n")
    (tmp_path / "packages").touch()  # where a folder would have to be
    suite = Suite(tmp_path, ".", packages=tmp_path / "packages")
    found = check(
        suite, Deadline(None, 0.0), lambda _: None, not_here={"tensorrt": "not installed"}
    )
    assert [(each.result, each.detail.partition(" (")[0]) for each in found.outcomes] == [
        ("not there", "not installed"),
        ("ran", ""),
        ("failed", "packages cannot be built"),
    ]


IMAGINED = "from tests.fakes.worker import imagine; imagine()"


NAMED = """
import sys, pytest

class Named:
    def pytest_collection_modifyitems(self, items):
        from tests.gpu.conftest import SIZES, _named
        for backend in ("tensorrt", "onnxruntime-cuda"):
            assert _named(items, backend) == {*SIZES}
        demo = [each for each in items if each.path.name == "test_backends.py"]
        assert _named(demo, "tensorrt") == {"demo"}

sys.exit(pytest.main(sys.argv[1:], plugins=[Named()]))
"""


def test_every_package_that_a_test_names_is_compiled_for_it() -> None:
    done = collected(NAMED)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_of_cuda_run_to_the_table_on_a_gpu_that_there_is_not(tmp_path: Path) -> None:
    """No package is built for them."""
    # Python imports it when it starts, in every process of the check.
    (tmp_path / "sitecustomize.py").write_text(IMAGINED)
    command = [sys.executable, "-m", "scripts.gpu_check", "--only", "test_cuda"]
    done = subprocess.run(
        [*command, "--write", str(tmp_path / "found.json")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gpu: Imagined GPU (sm_89" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert {each["result"] for each in found["tests"] if "test_cuda.py::" in each["name"]} == {
        "ran"
    }
    assert [each["name"] for each in found["stages"]] == [
        *("collection", "CUDA: start and import", "total")
    ]


def test_the_table_counts_and_names_them_and_tells_the_time() -> None:
    outcomes = [
        Outcome("a", "ran", "ms: 3", 1.5),
        Outcome("b", "failed", ""),
        Outcome("c", "ran", ""),
    ]
    found = Found(outcomes, [Stage("compile", 61.25), Stage("draw", 0.5, 3)])
    assert table(found).splitlines() == [
        *("ran: 2", "   1.50 s  a  (ms: 3)", "           c", "failed: 1", "           b"),
        *("not there: 0", "stages:", "  61.25 s  compile", "   0.50 s  draw  (3 times)"),
    ]
