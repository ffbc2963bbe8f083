"""The step graph over state that stays on the device.

Each sample has memory of its own for its latents, its history and its conditioning. A call gathers
the rows of those that share it, and puts back what has changed, by copies within the device on the
stream of the steps. So one CUDA graph serves a shape, whichever samples are in it, and no rotation
of latents has to be captured. Those copies take 25 microseconds of a step of SDXL on an H200.

The host runs ahead by one step: while the device makes one, the next one is put together.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from runtime.backends.device.cuda import Cuda, DeviceMemory
from runtime.backends.device.engine import DeviceCall, DeviceEngine
from runtime.backends.device.staging import Buffer, Uploads, reading
from runtime.backends.device.stream import Event
from runtime.backends.host_denoiser import row_inputs
from runtime.backends.low_rank import Weights
from runtime.backends.profiles import Shape
from runtime.backends.protocol import Array, Reading, Row
from runtime.package.manifest import BATCH, EVALUATIONS, HEIGHT, WIDTH
from runtime.package.step_graph import (
    HISTORY,
    LATENTS,
    NEXT_HISTORY,
    NEXT_LATENTS,
    NOISE,
    PREDICTED,
    REMEMBERED,
    input_shapes,
    sized,
)

# Where a sample's state is, and what a call makes of it.
_NEXT = {LATENTS: NEXT_LATENTS, HISTORY: NEXT_HISTORY}


@dataclass(slots=True)
class _State:
    arrays: dict[str, Buffer]
    """Latents and history, and what the last row predicted."""
    evaluations: list[dict[str, Buffer]]

    @property
    def memory(self) -> list[DeviceMemory]:
        """All that it holds."""
        buffers = [self.arrays, *self.evaluations]
        return [buffer.memory for each in buffers for buffer in each.values()]


class DeviceDenoiser:
    """A Denoiser whose samples' latents, history and conditioning are on the device."""

    def __init__(self, engine: DeviceEngine, cuda: Cuda) -> None:
        """`engine` runs the step graph."""
        self._engine = engine
        self._cuda = cuda
        self._stream = engine.stream
        self._uploads = Uploads(engine.pinned, engine.stream)
        self._states: dict[int, _State] = {}
        self._free: dict[int, list[DeviceMemory]] = defaultdict(list)
        self._conditioned: WeakKeyDictionary[DeviceCall, list[tuple[int, int]]] = (
            WeakKeyDictionary()
        )
        self._slots = count()
        self._last: Event | None = None

    def admit(
        self, latents: NDArray[np.float32], evaluations: Sequence[Mapping[str, Array]]
    ) -> int:
        """Take a sample in. Raises BackendError where no engine takes it, even alone."""
        for called in range(1, len(evaluations) + 1):
            self._engine.check(self._shapes(latents.shape, evaluations[0], 1, called))
        shape = latents.shape
        arrays = {
            LATENTS: self._uploaded(latents),
            HISTORY: self._buffer((1, REMEMBERED, *shape[1:]), np.dtype(np.float32)),
            PREDICTED: self._buffer(shape, np.dtype(np.float32)),
        }
        history = arrays[HISTORY]
        self._stream.zero(history.memory.address, history.row_bytes)
        conditioning = [
            {name: self._uploaded(array) for name, array in evaluation.items()}
            for evaluation in evaluations
        ]
        self._uploads.end_round()
        slot = next(self._slots)
        self._states[slot] = _State(arrays, conditioning)
        return slot

    def advance(self, rows: Sequence[Row]) -> None:
        """Enqueue a step, and wait for the one before it. Raises DeviceError."""
        states = [self._states[row.slot] for row in rows]
        call = self._call(rows, states)
        self._gather(call, rows, states)
        for name, array in row_inputs(rows).items():
            self._uploads.put(array, call.inputs[name].memory.address)
        self._uploads.end_round()
        call.run()
        self._put_back(call, states)
        before, self._last = self._last, self._stream.event()
        if before is not None:
            before.wait()

    def replace_weights(self, weights: Weights) -> None:
        """As of an Engine; the samples in it stay. Raises BackendError."""
        self._engine.replace_weights(weights)

    def latents(self, slot: int) -> Reading:
        """The sample as it is after what was enqueued, `[1, C, h, w]`."""
        return self._reading(slot, LATENTS)

    def predicted(self, slot: int) -> Reading:
        """The picture that the last row predicted, `[1, C, h, w]`."""
        return self._reading(slot, PREDICTED)

    def release(self, slot: int) -> None:
        """Forget a sample. Its memory is for the next one, which comes later on the same stream."""
        for memory in self._states.pop(slot).memory:
            self._free[memory.size_bytes].append(memory)

    def _call(self, rows: Sequence[Row], states: Sequence[_State]) -> DeviceCall:
        conditioning = {name: buffer.shape for name, buffer in states[0].evaluations[0].items()}
        evaluations = sum(len(row.mix) for row in rows)
        latents = states[0].arrays[LATENTS].shape
        return self._engine.call(self._at(latents, conditioning, len(rows), evaluations))

    def _gather(self, call: DeviceCall, rows: Sequence[Row], states: Sequence[_State]) -> None:
        for index, (row, state) in enumerate(zip(rows, states, strict=True)):
            for name in _NEXT:
                self._fill(call.inputs[name], index, state.arrays[name])
            noise = call.inputs[NOISE]
            if row.noise is None:
                self._stream.zero(noise.row(index), noise.row_bytes)
            else:
                self._uploads.put(row.noise, noise.row(index))
        called = [(row.slot, number) for row in rows for number in range(len(row.mix))]
        if self._conditioned.get(call) == called:
            return
        for index, (slot, number) in enumerate(called):
            for name, buffer in self._states[slot].evaluations[number].items():
                self._fill(call.inputs[name], index, buffer)
        self._conditioned[call] = called

    def _put_back(self, call: DeviceCall, states: Sequence[_State]) -> None:
        for index, state in enumerate(states):
            for name, made in (*_NEXT.items(), (PREDICTED, PREDICTED)):
                source, kept = call.outputs[made], state.arrays[name]
                self._stream.copy(kept.memory.address, source.row(index), source.row_bytes)

    def _fill(self, target: Buffer, index: int, source: Buffer) -> None:
        self._stream.copy(target.row(index), source.memory.address, target.row_bytes)

    def _reading(self, slot: int, name: str) -> Reading:
        return reading(self._engine.pinned, self._stream, self._states[slot].arrays[name])

    def _uploaded(self, array: Array) -> Buffer:
        buffer = self._buffer(array.shape, array.dtype)
        self._uploads.put(array, buffer.memory.address)
        return buffer

    def _buffer(self, shape: Shape, dtype: "np.dtype[np.generic]") -> Buffer:
        size = max(1, int(np.prod(shape)) * dtype.itemsize)
        free = self._free[size]
        return Buffer(free.pop() if free else self._cuda.allocate(size, "samples"), shape, dtype)

    def _shapes(
        self, latents: Shape, conditioning: Mapping[str, Array], samples: int, evaluations: int
    ) -> dict[str, Shape]:
        shapes = {name: array.shape for name, array in conditioning.items()}
        return self._at(latents, shapes, samples, evaluations)

    def _at(
        self, latents: Shape, conditioning: Mapping[str, Shape], samples: int, evaluations: int
    ) -> dict[str, Shape]:
        """The shapes of the step graph's inputs for so many samples and evaluations."""
        _, channels, height, width = latents
        sizes = {BATCH: samples, EVALUATIONS: evaluations, HEIGHT: height, WIDTH: width}
        return {
            **{name: sized(shape, sizes) for name, shape in input_shapes(channels).items()},
            **{name: (evaluations, *shape[1:]) for name, shape in conditioning.items()},
        }
