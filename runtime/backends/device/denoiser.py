"""The step graph over state that stays on the device.

Each sample has memory of its own for its latents, its history and its conditioning. A call copies
these into the rows of the engine's input buffers, and copies the new latents and history back, all
within the device and on the engine's stream. So one CUDA graph serves a shape, whichever samples
take part, and no swap of buffers has to be captured. The copies take 25 microseconds of a step of
SDXL on an H200.

The host runs ahead by one step: while the device computes a step, the host prepares the next step.
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

# A call's inputs that hold a sample's state, and the outputs that replace them.
_NEXT = {LATENTS: NEXT_LATENTS, HISTORY: NEXT_HISTORY}


@dataclass(slots=True)
class _State:
    arrays: dict[str, Buffer]
    """Latents and history, and what the last row predicted."""
    evaluations: list[dict[str, Buffer]]

    @property
    def memory(self) -> list[DeviceMemory]:
        """All device memory of the sample."""
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
        """Take a sample in. Raises BackendError where the engine takes no call of it alone."""
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
        """As `Engine.replace_weights`; the samples stay. Raises BackendError."""
        # The calls keep what the weights before made of the conditioning.
        self._conditioned.clear()
        self._engine.replace_weights(weights)

    def latents(self, slot: int) -> Reading:
        """The sample after all steps that are enqueued now, `[1, C, h, w]`."""
        return self._reading(slot, LATENTS)

    def predicted(self, slot: int) -> Reading:
        """The picture that the last row predicted, `[1, C, h, w]`."""
        return self._reading(slot, PREDICTED)

    def release(self, slot: int) -> None:
        """Forget a sample. Later samples reuse its memory, in the order of the same stream."""
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
        self._conditioned.pop(call, None)
        for index, (slot, number) in enumerate(called):
            for name, buffer in self._states[slot].evaluations[number].items():
                self._fill(call.inputs[name], index, buffer)
        call.condition()
        self._conditioned[call] = called

    def close(self) -> None:
        """Give the device's memory back; waits for the device. Raises DeviceError."""
        for slot in [*self._states]:
            self.release(slot)
        self._stream.synchronize()
        while self._free:
            for memory in self._free.popitem()[1]:
                self._cuda.free(memory)
        self._uploads.close()
        self._engine.close()

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
        """The shapes of the step graph's inputs for these numbers of samples and evaluations."""
        _, channels, height, width = latents
        sizes = {BATCH: samples, EVALUATIONS: evaluations, HEIGHT: height, WIDTH: width}
        return {
            **{name: sized(shape, sizes) for name, shape in input_shapes(channels).items()},
            **{name: (evaluations, *shape[1:]) for name, shape in conditioning.items()},
        }
