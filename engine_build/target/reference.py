"""The reference of a command: a package that was opened once, and its pictures, drawn once."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import onnxruntime

from engine_build.progress import Phases
from engine_build.target.capture import Call, captured_calls
from engine_build.target.forecast import forecast
from engine_build.target.unfused import CPU, CUDA, Place
from runtime.backends.devices import Devices
from runtime.package.manifest import ModelPackage

Sizes = Sequence[tuple[int, int]]
"""Widths and heights in pixels."""


class Reference:
    """The calls of a package's own graphs while real pictures are made; drawn when first asked
    for.
    """

    def __init__(
        self,
        package: ModelPackage,
        sizes: Sizes,
        place: Place = CPU,
        *,
        tell: Callable[[str], object] = lambda _: None,
        show_progress: bool = False,
    ) -> None:
        """Nothing is drawn yet. `tell` gets a forecast of time and memory before pictures are drawn
        on the CPU; `sizes` are in pixels."""
        self.package = package
        self.sizes = tuple(sizes)
        self.place = place
        self._tell = tell
        self._show_progress = show_progress

    @cached_property
    def calls(self) -> Mapping[str, Sequence[Call]]:
        """Every role's calls. Raises BackendError."""
        if not self.place.on_device:
            self._tell(forecast(self.package, self.sizes))
        with Phases("reference", shown=self._show_progress) as phases:
            return captured_calls(self.package, self.sizes, self.place, phases)


def place_here(devices: Devices, providers: Sequence[str] | None = None) -> Place:
    """The GPU, where there is one and ONNX Runtime's CUDA provider is installed; else the CPU.

    A CUDA provider that is installed and cannot be opened is returned too: opening a session with
    that provider raises BackendError. `providers` None: the providers that are installed.
    """
    installed = onnxruntime.get_available_providers() if providers is None else providers
    return CUDA if devices.first is not None and CUDA.provider in installed else CPU
