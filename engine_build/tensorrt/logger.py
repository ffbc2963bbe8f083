"""What TensorRT says while it compiles: its warnings and errors, and how far it is."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorrt_rtx as trt

    from runtime.backends.tensorrt_flavour import Api

_KEPT = 20


class VendorLog:
    """Keeps the last warnings and errors, one line each."""

    def __init__(self, api: "Api") -> None:
        """Make a logger of the vendor's own kind, which exists only once its module is loaded."""
        self.warnings: list[str] = []
        self._errors: list[str] = []
        self._kept: list[object] = []
        severity = api.ILogger.Severity
        errors = (severity.ERROR, severity.INTERNAL_ERROR)

        def log(_self: object, found: Any, message: str) -> None:
            lines = self._errors if found in errors else self.warnings
            if found in errors or found == severity.WARNING:
                lines.append(" ".join(message.split()))
                del lines[:-_KEPT]

        def __init__(logger: Any) -> None:  # noqa: N807
            api.ILogger.__init__(logger)

        made: Any = type("Logger", (api.ILogger,), {"__init__": __init__, "log": log})
        self.logger: trt.ILogger = made()

    def last_error(self) -> str:
        """The vendor's own words."""
        return self._errors[-1] if self._errors else "it does not say why"

    def keep(self, item: object) -> None:
        """Let something live as long as this log: the vendor's objects hold no references."""
        self._kept.append(item)


def monitor(api: "Api", report: Callable[[str, int, int], bool]) -> "trt.IProgressMonitor":
    """Tells `report` each phase's name, step and number of steps; its False ends the work."""
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
