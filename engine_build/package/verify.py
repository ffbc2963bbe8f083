"""Checks a graph against PyTorch on the same inputs."""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from engine_build.package.export.role import RoleExport
from engine_build.package.tolerances import GRAPH_PICTURE, PICTURE_SHARE
from runtime.backends.onnxruntime.cpu import open_session
from runtime.errors import BuildError
from runtime.package.manifest import GraphCheck

Arrays = Mapping[str, NDArray[np.generic]]


def check_graph(
    role: RoleExport, graph: Path, external_folder: Path | None = None, *, frugal: bool = False
) -> GraphCheck:
    """Compare the graph with PyTorch at all of the role's check sizes.

    `external_folder` holds the graph's weights where they do not lie beside the graph; `frugal`
    leaves weights in their mapped files, and takes more time.

    Raises BuildError when an output is further away than the role's tolerance. PyTorch's side runs
    first and is let go before the graph is opened, so that only one of them is in memory.
    """
    runs = [role.draw_inputs(sizes, seed) for seed, sizes in enumerate(role.checked_at, start=1)]
    expected = _run_reference(role, runs)
    gc.collect()
    options = frugal_options() if frugal else onnxruntime.SessionOptions()
    found = run_graph(graph, [_arrays(inputs) for inputs in runs], external_folder, options)
    errors: dict[str, float] = {}
    tolerance = role.tolerance
    for reference, answer in zip(expected, found, strict=True):
        for name in role.outputs:
            if reference[name].dtype == np.uint8:
                tolerance = GRAPH_PICTURE
            error = output_error(reference[name], answer[name])
            errors[name] = max(errors.get(name, 0.0), error)
    worst = max(errors, key=lambda name: errors[name])
    if not errors[worst] <= tolerance:
        raise BuildError(
            f"{role.role}: the graph does not match PyTorch: {worst} is off by {errors[worst]:.1e} "
            f"of its largest magnitude, allowed is {tolerance:.1e}"
        )
    return GraphCheck(largest_error=errors[worst], tolerance=tolerance, outputs=errors)


def output_error(expected: NDArray[np.generic], found: NDArray[np.generic]) -> float:
    """The error of an output, relative to the largest magnitude of the expected one.

    Of 8-bit pictures: the 99.9th percentile of the difference, relative to 255. Infinite where
    shapes or dtypes differ, a value is not finite, or all expected floats are 0.
    """
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf")
    difference = np.abs(expected.astype(np.float64) - found.astype(np.float64))
    if expected.dtype == np.uint8:
        return float(np.quantile(difference, PICTURE_SHARE, method="higher") / 255)
    scale = float(np.abs(expected.astype(np.float64)).max())
    if not (np.isfinite(difference).all() and scale > 0):
        return float("inf")
    return float(difference.max() / scale)


def frugal_options() -> onnxruntime.SessionOptions:
    """Options by which weights stay in their mapped files, and are widened to fp32 in each run.

    Weights folded and packed beforehand would all be in memory in fp32, and arenas free nothing.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False
    return options


def run_graph(
    graph: Path,
    runs: Sequence[Arrays],
    external_folder: Path | None = None,
    options: onnxruntime.SessionOptions | None = None,
) -> list[dict[str, NDArray[np.generic]]]:
    """Run a graph on ONNX Runtime's CPU provider, once for each set of inputs."""
    options = options or onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Buffers of one shape are of no use to the next: the check runs once per shape.
    options.enable_mem_pattern = False
    try:
        session = open_session(graph, options, external_folder)
        names = [output.name for output in session.get_outputs()]
        accepted = {item.name for item in session.get_inputs()}
        return [
            dict(zip(names, session.run(names, _accepted(inputs, accepted)), strict=True))
            for inputs in runs
        ]
    except Exception as error:  # onnxruntime's own errors share no base but this
        raise BuildError(f"{graph}: ONNX Runtime cannot run it: {error}") from error


def _accepted(inputs: Arrays, names: set[str]) -> Arrays:
    missing = names - inputs.keys()
    unused = inputs.keys() - names
    if missing or unused:
        raise BuildError(f"the graph's inputs differ: missing {missing}, unused {unused}")
    return inputs


def _run_reference(
    role: RoleExport, runs: Sequence[Mapping[str, torch.Tensor]]
) -> list[dict[str, NDArray[np.generic]]]:
    module = role.wrap(role.load()).eval()
    answers = []
    for inputs in runs:
        with torch.no_grad():
            answer = module(*inputs.values())
        outputs = answer if isinstance(answer, tuple) else (answer,)
        answers.append(
            {name: value.numpy() for name, value in zip(role.outputs, outputs, strict=True)}
        )
    return answers


def _arrays(inputs: Mapping[str, torch.Tensor]) -> Arrays:
    return {name: value.numpy() for name, value in inputs.items()}
