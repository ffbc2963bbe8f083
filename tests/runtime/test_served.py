"""How many pictures a call is made for, by what a target's steps were measured to take."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.manifest import read_manifest
from runtime.served import served_by
from runtime.target import StepTime
from tests.runtime.targets import Made, add_target

ENGINES = Path(__file__).parents[2] / "engines"


def samples(folder: Path, milliseconds: Sequence[float]) -> int:
    """What a target of batches up to 4 is served with, whose guided steps take so long."""
    manifest, _ = read_manifest(ENGINES / "demo")
    (folder / "manifest.json").write_bytes((ENGINES / "demo" / "manifest.json").read_bytes())
    target = add_target(folder, Made(samples=4))
    place = {"height": 16, "width": 16, "tokens": 32}
    times = tuple(
        StepTime({"batch": batch, "evaluations": each * batch, **place}, took / (3 - each))
        for batch, took in enumerate(milliseconds, start=1)
        # Those without guidance, which are faster, say nothing of those with it.
        for each in (2, 1)
    )
    engine = replace(target.record.engines["denoiser"], step_times=times)
    engines = {**target.record.engines, "denoiser": engine}
    measured = replace(target, record=replace(target.record, engines=engines))
    return served_by(measured, manifest).limits.samples


@pytest.mark.parametrize(
    ("milliseconds", "served"),
    [
        ([], 4),  # nothing was measured: as many as it takes
        ([10], 4),  # nor of batches
        ([10, 11, 12, 13], 4),
        ([10, 20, 30, 40], 1),  # a batch saves nothing
        ([10, 14, 30, 40], 2),
        ([10, 25, 30, 36], 4),
    ],
)
def test_batches_are_as_large_as_they_pay(
    tmp_path: Path, milliseconds: list[float], served: int
) -> None:
    assert samples(tmp_path, milliseconds) == served
