"""The benchmark of the dialects, on the demo."""

from pathlib import Path

import pytest

from benchmarks.dialects import AGAINST
from tests.benchmarks.running import run


def test_every_way_to_the_same_picture_is_timed(tmp_path: Path) -> None:
    flags = ("--turns", "2", "--warm", "1", "--steps", "1")
    figures = run("dialects", tmp_path / "dialects.json", *flags)["figures"]
    for path, ours in AGAINST.items():
        mine, theirs = figures[path]["values"], figures[ours]["values"]
        assert min(*mine, *theirs) > 0
        differences = [one - other for one, other in zip(mine, theirs, strict=True)]
        assert figures[f"{path}: added"]["values"] == pytest.approx(differences, abs=1e-2)
