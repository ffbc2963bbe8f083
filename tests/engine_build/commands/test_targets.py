"""`engine-build targets` on a target for a GPU that its backend does not run on."""

import shutil
from pathlib import Path

from engine_build.target.report import targets_table
from runtime.package.manifest import read_package
from tests.places import ENGINES
from tests.runtime.package.targets import Made, add_target


def test_a_target_that_no_gpu_runs_is_told_with_the_reason(tmp_path: Path) -> None:
    shutil.copytree(ENGINES / "demo", tmp_path / "demo")
    good = add_target(tmp_path / "demo", Made(backend="tensorrt-rtx"))
    bad = add_target(tmp_path / "demo", Made(backend="tensorrt-rtx", compute_capability="sm_90"))
    lines = {
        line.split()[0]: line for line in targets_table(read_package(tmp_path, "demo")).splitlines()
    }
    assert lines[good.name].endswith(" verified")
    assert "tensorrt-rtx does not run on sm_90: it is for the RTX line" in lines[bad.name]
    assert "verified" not in lines[bad.name]
