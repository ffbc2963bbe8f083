"""`calotype serve` has the files read that its worker opens, while the worker starts."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from api.cli import main
from api.commands import serve
from tests.places import ENGINES


def test_files_are_read_ahead_before_the_server_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def read_ahead(paths: Sequence[Path]) -> None:
        done.extend(path.name for path in paths[:2])

    monkeypatch.setattr(serve, "read_ahead", read_ahead)
    monkeypatch.setattr(serve, "serve", lambda *_, **__: done.append("served"))
    assert main(["serve", "--engines", str(ENGINES), "--backend", "onnxruntime-cpu"]) == 0
    assert done == ["denoiser.onnx", "denoiser.safetensors", "served"]
