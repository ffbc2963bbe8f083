"""CUDA graphs of an engine's calls: captured behind plain runs, and proven before they serve.

A library may still allocate in the second and third run of a shape, so a call is run plainly until
the device's memory stays as it is, and captured then. A graph holds addresses, of memory that its
library may give to others: before it serves, its replay is held to plain runs on the same inputs,
and once more when another call of the same engine has run plainly since. What cannot be captured,
or differs, runs without a graph from then on, and is not tried again.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.backends.device.device import Device
from runtime.backends.device.graph import CaptureError, Graph, capture
from runtime.backends.device.staging import Buffer, reading
from runtime.backends.device.stream import Stream
from runtime.errors import DeviceError, GraphError

ATTEMPTS = 2
"""Captures of one call in a row, each behind a plain run, before the call is given up."""

SETTLING = 4
"""Plain runs at most before a capture: ONNX Runtime's arena grows in the first two or three."""

Outputs = Mapping[str, NDArray[np.generic]]


class Work(Protocol):
    """The work of a call: the same kernels at the same addresses, time after time."""

    @property
    def outputs(self) -> Mapping[str, Buffer]:
        """The buffers that the work writes; its inputs are left as they are."""
        ...

    def enqueue(self, *, capturing: bool) -> None:
        """Put it on its stream. Raises DeviceError."""
        ...

    def open_anew(self) -> None:
        """Open again whatever runs it, for plain runs alone. Raises DeviceError."""
        ...


class Graphs:
    """The CUDA graphs of one engine, whose calls share a library's memory and a stream."""

    def __init__(self, device: Device, stream: Stream, role: str, noise: float) -> None:
        """`noise` is what two plain runs may differ by, as `distance` measures it."""
        self.device = device
        self.stream = stream
        self.role = role
        self.noise = noise
        self.calls = 0
        """Calls that have run so far."""
        self.last_plain = ""
        """The shapes of the call that ran plainly last."""
        self._wanted = device.captures
        self._given_up: set[str] = set()

    def wanted(self, at: str) -> bool:
        """True where a call at these shapes is to be captured."""
        return self._wanted and at not in self._given_up

    def give_up(self, at: str, reason: str) -> None:
        """Run calls at these shapes plainly from now on."""
        self._given_up.add(at)
        self.device.shortfalls.add(f"{self.role} at {at} runs without a CUDA graph: {reason}")

    def give_up_all(self) -> None:
        """Run every call plainly from now on; whoever says so tells why."""
        self._wanted = False

    def run_plainly(self, work: Work) -> None:
        """Run it without a graph. Raises DeviceError.

        Right behind a capture that failed, a run that fails is tried once more with the library
        opened anew: what the capture left behind is not the device's fault.
        """
        try:
            work.enqueue(capturing=False)
        except DeviceError as error:
            if not self.device.spoilt:
                raise
            self.device.spoilt = False
            self.give_up_all()
            self.device.shortfalls.add(
                f"{self.role} was opened again and runs without CUDA graphs, since it failed right "
                f"behind a capture that had failed: {error}"
            )
            work.open_anew()
            work.enqueue(capturing=False)
        self.device.spoilt = False


class Replay:
    """One call of an engine: plainly at first, then as a graph."""

    def __init__(self, graphs: Graphs, work: Work, at: str) -> None:
        """`at` names its shapes, for people, and tells them from all others of the engine."""
        self._at = at
        self._graphs = graphs
        self._work = work
        self._graph: Graph | None = None
        self._was_proven = False
        self._proven_beside = 0
        self._noise = graphs.noise
        """The largest distance seen between plain runs, and at least the library's known one."""
        self._has_run = False

    def run(self) -> None:
        """Enqueue it. Raises DeviceError."""
        if self._graph is None:
            self.run_plainly()
            if self._graphs.wanted(self._at):
                self._capture()
        elif self._is_new_beside_others():
            self._prove_beside_others(self._graph)
        else:
            self._graph.launch(self._graphs.stream)

    def run_plainly(self) -> None:
        """Enqueue it, and capture nothing. Raises DeviceError."""
        graphs = self._graphs
        graphs.last_plain = self._at
        graphs.run_plainly(self._work)
        if not self._has_run:
            self._has_run = True
            graphs.calls += 1

    def forget(self) -> None:
        """Capture anew at the next run; nothing of it may be running."""
        if self._graph is not None:
            self._graph.destroy()
            self._graph = None

    def _capture(self) -> None:
        """Capture and prove it; its outputs are then those of its inputs, whatever came of that."""
        graphs = self._graphs
        self._settle()
        for attempt in range(1, ATTEMPTS + 1):
            expected = self._read()
            try:
                graph = capture(graphs.stream, lambda: self._work.enqueue(capturing=True))
            except CaptureError as error:
                graphs.device.spoilt = True
                self.run_plainly()
                if attempt == ATTEMPTS or not graphs.wanted(self._at):
                    graphs.give_up(self._at, str(error))
                    return
            else:
                self._graph = graph
                self._prove(graph, expected)
                return

    def _settle(self) -> None:
        """Run it plainly until that takes no more memory of the device.

        Others may take some at the same time: then it is run once more for nothing.
        """
        cuda, stream = self._graphs.device.cuda, self._graphs.stream
        stream.synchronize()
        for _ in range(SETTLING if not self._was_proven else 0):
            free, _ = cuda.memory()
            self.run_plainly()
            stream.synchronize()
            if cuda.memory()[0] >= free:
                return

    def _prove(self, graph: Graph, expected: Outputs) -> None:
        """Hold a new graph's replay to what a plain run gave before it, other runs between them."""
        if not self._was_proven:
            self.run_plainly()
            self._hear_noise(expected)
        found = self._replayed(graph)
        if found is not None:
            self._judge(distance(found, expected))

    def _is_new_beside_others(self) -> bool:
        """True when another call of the engine has run plainly since this call did, for the first
        time since the newest of the calls was made.
        """
        graphs = self._graphs
        return graphs.last_plain != self._at and self._proven_beside != graphs.calls

    def _prove_beside_others(self, graph: Graph) -> None:
        """Hold a replay to plain runs after it: others have used the library's memory before it."""
        self._proven_beside = self._graphs.calls
        found = self._replayed(graph)
        if found is None:
            return
        self.run_plainly()
        expected = self._read()
        self.run_plainly()
        self._hear_noise(expected)
        self._judge(distance(found, expected))

    def _hear_noise(self, expected: Outputs) -> None:
        """Measure what two plain runs differ by: the one that is over, and one before it."""
        self._noise = max(self._noise, distance(self._read(), expected))

    def _judge(self, off: float) -> None:
        if off <= self._noise:
            self._was_proven = True
            return
        self.forget()
        self._graphs.give_up(
            self._at,
            f"its replay was off by {off:.1e} from the plain run on the same inputs, allowed is "
            f"{self._noise:.1e}",
        )
        self.run_plainly()

    def _replayed(self, graph: Graph) -> Outputs | None:
        """The outputs of a replay; None where it failed, and the call ran plainly in its place."""
        graphs = self._graphs
        for buffer in self._work.outputs.values():
            # Or a graph that writes nothing would give what the plain run left there.
            graphs.stream.zero(buffer.memory.address, buffer.memory.size_bytes)
        with graphs.device.trial(graphs.role):
            try:
                graph.launch(graphs.stream)
                return self._read()
            except DeviceError as error:
                self._survive(error)
                return None

    def _survive(self, error: DeviceError) -> None:
        """Run plainly behind a replay that failed. Raises GraphError where the device is lost."""
        graphs = self._graphs
        graphs.device.cuda.forget_errors()
        try:
            self.forget()
            self.run_plainly()
            graphs.stream.synchronize()
        except DeviceError as lost:
            raise GraphError(f"{graphs.role}: a new CUDA graph took the device: {error}") from lost
        graphs.give_up(self._at, f"its replay failed: {error}")

    def _read(self) -> Outputs:
        graphs = self._graphs
        readings = {
            name: reading(graphs.device.pinned, graphs.stream, buffer)
            for name, buffer in self._work.outputs.items()
        }
        return {name: read() for name, read in readings.items()}


def distance(found: Outputs, expected: Outputs) -> float:
    """The distance of outputs: the mean of the differences, relative to the largest magnitude that
    was expected; of several outputs the largest. Infinite where only one of two is finite.
    """
    return max((_distance(found[name], each) for name, each in expected.items()), default=0.0)


def _distance(found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    if found.tobytes() == expected.tobytes():
        return 0.0
    # What is wrong may be any bits, such as those of a NaN that traps.
    with np.errstate(all="ignore"):
        ours, theirs = found.astype(np.float64), expected.astype(np.float64)
        return _relative(ours, theirs)


def _relative(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    finite = np.isfinite(theirs)
    if not np.array_equal(ours[~finite], theirs[~finite], equal_nan=True):
        return float("inf")
    if not np.isfinite(ours[finite]).all():
        return float("inf")
    off = np.abs(ours[finite] - theirs[finite])
    if not off.any():
        return 0.0
    scale = float(np.abs(theirs[finite]).max())
    return float(off.mean()) / scale if scale else float("inf")
