"""The interface of inference backends: the seam between the denoising loop and a vendor."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from runtime.backends.low_rank import Weights

Array = NDArray[Any]

Reading = Callable[[], NDArray[np.float32]]
"""An array on its way from a device: calling it waits for it. To be called once, in any thread."""


class Engine(Protocol):
    """One network of a model (a role), opened and ready."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Named host arrays in, named host arrays out. Raises BackendError."""
        ...

    def replace_weights(self, weights: Weights) -> None:
        """From now on these initializers hold these values, and all others the package's own.

        An engine that keeps its weights on a device rewrites the union of those that it replaced
        before and those that it is to replace now, each from what is given here or from the
        package: nothing of what was there before stays. Raises BackendError.
        """
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

    Shorter than the number of evaluations that were admitted: the rest are not called.
    """
    guidance_rescale: float


class Denoiser(Protocol):
    """The step graph together with the state of the samples in it.

    Latents and history live wherever the backend wants them (host arrays, device buffers); the
    loop only ever names a sample by its slot and reads what it has to show.
    """

    def admit(
        self, latents: NDArray[np.float32], evaluations: Sequence[Mapping[str, Array]]
    ) -> int:
        """Take a sample in: latents `[1, C, h, w]` and each evaluation's conditioning.

        A conditioning is a mapping from the step graph's own input names to arrays `[1, ...]`.
        Returns the sample's slot. Raises BackendError for what no engine takes.
        """
        ...

    def advance(self, rows: Sequence[Row]) -> None:
        """One call of the step graph: each of these samples, all of one shape, goes one row on.

        It may still be under way on return; then the call before it is not. Raises BackendError.
        """
        ...

    def replace_weights(self, weights: Weights) -> None:
        """As of an Engine; the samples in it stay. Raises BackendError."""
        ...

    def latents(self, slot: int) -> Reading:
        """The sample as it is now, `[1, C, h, w]`, whatever becomes of it meanwhile."""
        ...

    def predicted(self, slot: int) -> Reading:
        """The picture that the last row predicted, as latents `[1, C, h, w]`."""
        ...

    def release(self, slot: int) -> None:
        """Forget a sample."""
        ...


class Backend(Protocol):
    """A way to run a model package on this machine."""

    name: str
    device: str
    multiplies_updates: bool
    """True where engines are better given low-rank updates as two factors than merged."""

    def open(self, role: str) -> Engine:
        """Open one of the package's networks. Raises BackendError."""
        ...

    def open_denoiser(self) -> Denoiser:
        """Open the step graph. Raises BackendError."""
        ...

    def check_loras(self) -> None:
        """Raises PackageError where it lacks a file that drawing with LoRAs takes."""
        ...


class TrialListener(Protocol):
    """Who hears of the first launch of a new CUDA graph, which may end the process. Threads call
    it.
    """

    def begun(self, role: str) -> None:
        """A graph of this role is about to be launched."""
        ...

    def over(self, role: str) -> None:
        """The first launch of this role's graph has returned, and the process lives."""
        ...


@runtime_checkable
class OnDevice(Protocol):
    """A Backend on a device, of whose state it gives an account."""

    shortfalls: Iterable[str]
    """Sentences for people, each about something that runs slower or otherwise than it should."""

    def watch_trials(self, listener: TrialListener) -> None:
        """Let the first launches of CUDA graphs be told from now on."""
        ...

    def device_memory(self) -> Mapping[str, int]:
        """Bytes by what they are used for; `free` and `total` whoever uses them.

        Raises DeviceError. May be called in any thread.
        """
        ...
