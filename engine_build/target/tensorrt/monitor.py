"""The progress of TensorRT while it compiles."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorrt_rtx as trt

    from runtime.backends.tensorrt.flavour import Api


def monitor(api: "Api", report: Callable[[str, int, int], bool]) -> "trt.IProgressMonitor":
    """A monitor that tells `report` each phase's name, step and number of steps; a False of
    `report` ends the work."""
    steps: dict[str, int] = {}

    def __init__(self: Any) -> None:  # noqa: N807
        api.IProgressMonitor.__init__(self)

    def phase_start(_self: object, phase_name: str, _parent: str | None, num_steps: int) -> None:
        steps[phase_name] = num_steps

    def step_complete(_self: object, phase_name: str, step: int) -> bool:
        return report(phase_name, step + 1, steps.get(phase_name, step + 1))

    def phase_finish(_self: object, phase_name: str) -> None:
        steps.pop(phase_name, None)

    methods = {
        "__init__": __init__,
        "phase_start": phase_start,
        "step_complete": step_complete,
        "phase_finish": phase_finish,
    }
    made: Any = type("Monitor", (api.IProgressMonitor,), methods)
    found: trt.IProgressMonitor = made()
    return found
