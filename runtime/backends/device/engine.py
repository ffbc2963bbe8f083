"""An engine on a device, whichever library runs it, and its adapter to an Engine of host arrays."""

from collections.abc import Iterator, Mapping
from time import perf_counter
from typing import Protocol

import numpy as np

from runtime.backends.device.staging import Buffer, PinnedPool, Uploads, reading
from runtime.backends.device.stream import Stream
from runtime.backends.low_rank import Weights
from runtime.backends.profiles import Shape
from runtime.backends.protocol import Array, Started
from runtime.package.manifest import BATCH, InputRecord


class DeviceCall(Protocol):
    """An engine's call at fixed shapes; the addresses of its buffers never change.

    After a change of the conditioning among its inputs, and after one of the engine's weights, the
    call is conditioned before the next run.
    """

    @property
    def inputs(self) -> Mapping[str, Buffer]:
        """The buffers that a run reads, by the input's name."""
        ...

    @property
    def outputs(self) -> Mapping[str, Buffer]:
        """The buffers that a run writes, by the output's name."""
        ...

    def condition(self) -> None:
        """Enqueue the part of the work that depends on the conditioning alone, where the engine
        keeps the results for many runs. Raises DeviceError.
        """
        ...

    def run(self) -> None:
        """Enqueue the call on the engine's stream, with the results of the last `condition`.

        Raises DeviceError.
        """
        ...


class DeviceEngine(Protocol):
    """One engine with a stream of its own. For one thread at a time."""

    @property
    def stream(self) -> Stream:
        """The stream on which all of the engine's work is enqueued."""
        ...

    @property
    def pinned(self) -> PinnedPool:
        """The pool of pinned blocks for copies."""
        ...

    @property
    def largest_batch(self) -> int | None:
        """The largest batch that the engine takes; None where there is no bound or no batch."""
        ...

    def check(self, shapes: Mapping[str, Shape]) -> None:
        """Raises BackendError, with a remedy, for shapes that the engine does not take."""
        ...

    def call(self, shapes: Mapping[str, Shape]) -> DeviceCall:
        """The call at these shapes, made at the first use. Raises BackendError."""
        ...

    def replace_weights(self, weights: Weights) -> None:
        """As `Engine.replace_weights`. Raises BackendError."""
        ...

    def close(self) -> None:
        """Give the device's memory back; the engine cannot be used afterwards."""
        ...


class HostArrayEngine:
    """An Engine over a DeviceEngine: named host arrays in, named host arrays out."""

    def __init__(self, engine: DeviceEngine, inputs: Mapping[str, InputRecord]) -> None:
        """`inputs` are those of the role, as the manifest has them."""
        self._engine = engine
        self._inputs = inputs
        self._uploads = Uploads(engine.pinned, engine.stream)

    def start(self, inputs: Mapping[str, Array]) -> Started:
        """Enqueue a run, in pieces for a batch larger than any profile's. Raises BackendError."""
        started = [self._start(piece) for piece in self._pieces(inputs)]

        def read() -> dict[str, Array]:
            made = [each() for each in started]
            return {name: np.concatenate([outputs[name] for outputs in made]) for name in made[0]}

        return read

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """As `start`, and wait for the outputs. Raises BackendError."""
        return self.start(inputs)()

    def replace_weights(self, weights: Weights) -> None:
        """As `Engine.replace_weights`. Raises BackendError."""
        self._engine.replace_weights(weights)

    def close(self) -> None:
        """As `Engine.close`; waits for the device. Raises DeviceError."""
        self._uploads.close()
        self._engine.close()

    def milliseconds(self, inputs: Mapping[str, Array]) -> float:
        """Milliseconds of a call on the device, without copies and without what depends on the
        conditioning alone; an untimed call comes first.
        """
        self.run(inputs)
        call = self._engine.call({name: array.shape for name, array in inputs.items()})
        began = perf_counter()
        call.run()
        self._engine.stream.synchronize()
        return (perf_counter() - began) * 1000

    def _pieces(self, inputs: Mapping[str, Array]) -> Iterator[Mapping[str, Array]]:
        batched = [name for name, record in self._inputs.items() if record.shape[0] == BATCH]
        most = self._engine.largest_batch
        if most is None or not batched:
            yield inputs
            return
        for begin in range(0, len(inputs[batched[0]]), most):
            yield {
                name: array[begin : begin + most] if name in batched else array
                for name, array in inputs.items()
            }

    def _start(self, inputs: Mapping[str, Array]) -> Started:
        call = self._engine.call({name: array.shape for name, array in inputs.items()})
        for name, array in inputs.items():
            buffer = call.inputs[name]
            self._uploads.put(array.astype(buffer.dtype, copy=False), buffer.memory.address)
        self._uploads.end_round()
        call.condition()
        call.run()
        readings = {
            name: reading(self._engine.pinned, self._engine.stream, buffer)
            for name, buffer in call.outputs.items()
        }
        return lambda: {name: read() for name, read in readings.items()}
