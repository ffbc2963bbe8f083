"""The interface of inference backends: the seam between the denoising loop and a vendor."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from runtime.backends.low_rank import Weights
from runtime.backends.placing import Placing

Array = NDArray[Any]

Reading = Callable[[], NDArray[np.float32]]
"""Waits for an array on its way from a device, and returns it. To be called once, in any thread."""

Started = Callable[[], dict[str, Array]]
"""Waits for a run's outputs, and returns them as named host arrays. To be called once, in the
engine's thread. Raises BackendError.
"""


class Engine(Protocol):
    """One network of a model (a role), opened and ready. For one thread at a time."""

    def start(self, inputs: Mapping[str, Array]) -> Started:
        """Begin a run on named host arrays, which may be changed on return.

        An engine on a device enqueues the run there, beside what other engines have enqueued; an
        engine on the CPU computes at once. Raises BackendError.
        """
        ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """As `start`, and wait for the outputs. Raises BackendError."""
        ...

    def replace_weights(self, weights: Weights) -> None:
        """From now on these initializers hold these values, and all others the package's own.

        An engine that keeps its weights on a device writes the union of the weights replaced before
        and of `weights`, each with its value in `weights` or else with the package's own: no value
        of an earlier set stays. Raises BackendError.
        """
        ...

    def close(self) -> None:
        """Give all memory back, once no run is under way; the engine cannot be used afterwards."""
        ...


@runtime_checkable
class GivesBack(Protocol):
    """An Engine or a Denoiser that keeps the memory of its largest call, for the next one."""

    def give_back(self) -> None:
        """Give back what was kept, beside what small calls take. Raises BackendError."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """One sample's part in one call of the step graph."""

    slot: int
    """The handle that `Denoiser.admit` gave."""
    timestep: float
    coefficients: NDArray[np.float32]
    """`[11]`, in the order of `runtime.package.step_graph.Coefficients`."""
    noise: NDArray[np.float32] | None
    """`[1, C, h, w]`, or None for none."""
    mix: tuple[float, ...]
    """The weight of each of the sample's evaluations; the first is the positive prompt's.

    A `mix` shorter than the evaluations that were admitted leaves the last of them out of the call.
    """
    guidance_rescale: float


class Denoiser(Protocol):
    """The step graph together with the state of the samples in it.

    Latents and history live wherever the backend wants them (host arrays, device buffers); the
    loop only ever names a sample by its slot, and reads the sample's latents and predicted picture.
    """

    def admit(
        self, latents: NDArray[np.float32], evaluations: Sequence[Mapping[str, Array]]
    ) -> int:
        """Take a sample in: latents `[1, C, h, w]` and each evaluation's conditioning.

        A conditioning is a mapping from the step graph's own input names to arrays `[1, ...]`.
        Returns the sample's slot. Raises BackendError for shapes that no engine takes.
        """
        ...

    def advance(self, rows: Sequence[Row]) -> None:
        """One call of the step graph: each of these samples, all of one shape, goes one row on.

        On return this call may still run on the device; the call before it has finished. Raises
        BackendError; where memory was lacking, no sample has changed.
        """
        ...

    def replace_weights(self, weights: Weights) -> None:
        """As `Engine.replace_weights`; the samples stay. Raises BackendError."""
        ...

    def latents(self, slot: int) -> Reading:
        """The sample as it is now, `[1, C, h, w]`; later calls do not change the reading."""
        ...

    def predicted(self, slot: int) -> Reading:
        """The picture that the last row predicted, as latents `[1, C, h, w]`."""
        ...

    def release(self, slot: int) -> None:
        """Forget a sample."""
        ...

    def close(self) -> None:
        """As `Engine.close`."""
        ...


class Backend(Protocol):
    """A way to run a model package on this machine."""

    name: str
    device: str
    multiplies_updates: bool
    """True where engines are better given low-rank updates as two factors than merged."""
    few_shapes: bool
    """True where each new shape of inputs is dear, so that text is filled up to few extents."""

    @property
    def placing(self) -> Placing:
        """The place of the text encoders. At `cpu` the backend of the CPU opens them."""
        ...

    def open(self, role: str) -> Engine:
        """Open one of the package's networks. Raises BackendError."""
        ...

    def open_denoiser(self) -> Denoiser:
        """Open the step graph. Raises BackendError."""
        ...

    def check_loras(self) -> None:
        """Raises PackageError where a file that drawing with LoRAs needs is missing or damaged."""
        ...


class TrialListener(Protocol):
    """A listener for the first launch of each new CUDA graph, which may end the process. Several
    threads call the listener.
    """

    def begun(self, role: str) -> None:
        """A graph of this role is about to be launched."""
        ...

    def over(self, role: str) -> None:
        """The first launch of this role's graph has returned, and the process lives."""
        ...


SPARE = "LoRA bases"
"""The purpose, among those of `OnDevice.device_memory`, of memory that is given back where memory
falls short: the package's own weights, kept for changes of LoRAs.
"""


@runtime_checkable
class OnDevice(Protocol):
    """A Backend on a device, whose state the backend reports."""

    shortfalls: Iterable[str]
    """Sentences for people, each about something that runs slower or otherwise than it should."""

    def watch_trials(self, listener: TrialListener) -> None:
        """Tell `listener` of the first launch of every CUDA graph from now on."""
        ...

    def device_memory(self) -> Mapping[str, int]:
        """Bytes in use by purpose; `free` and `total` are those of the whole device.

        Raises DeviceError. May be called in any thread.
        """
        ...

    def uploaded_bytes(self) -> int:
        """Bytes that were copied to the device so far by our own code, not by a vendor's."""
        ...
