"""In what order ONNX Runtime runs the nodes of a graph, by its own account."""

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import onnx_ir as ir
import onnxruntime
import pytest

from engine_build.target import unfused
from engine_build.target.unfused import CPU, UnfusedSession
from runtime.backends.protocol import Array

_SUFFIX = "_kernel_time"


def name_nodes(model: ir.Model) -> None:
    """Name each node by its first output, in place."""
    for node in model.graph:
        node.name = node.outputs[0].name


def executed(
    model: ir.Model,
    weights: Path,
    inputs: Mapping[str, Array],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """The names of the nodes that a call of an unfused session ran, in that order."""
    real = unfused.session_options

    def profiled(of: Path) -> onnxruntime.SessionOptions:
        options = real(of)
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        return options

    monkeypatch.setattr(unfused, "session_options", profiled)
    with closing(UnfusedSession("a role", model, weights, CPU)) as session:
        session.run(inputs)
        profile = Path(session._session.end_profiling())
    names = [event["name"] for event in json.loads(profile.read_text())]
    return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
