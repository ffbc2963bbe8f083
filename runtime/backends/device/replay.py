"""CUDA graphs of an engine's calls: captured after plain runs, and proven before they serve.

A library may still allocate in the second and third run of a shape, so a call runs plainly until a
run takes no more of the device's memory, and is captured then. A graph holds addresses of memory
that the library may give to other calls: before the graph serves, its replay is compared with plain
runs on the same inputs, and once more after another call of the same engine has run plainly. A call
that cannot be captured, or whose replay differs, runs without a graph from then on, with no retry.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.backends.device.device import Device
from runtime.backends.device.graph import CaptureError, Graph, capture
from runtime.backends.device.staging import Buffer, reading
from runtime.backends.device.stream import Stream
from runtime.errors import DeviceError, GraphError, lacks_memory

ATTEMPTS = 2
"""Captures of one call in a row, each after a plain run, before the call is given up."""

SETTLING = 4
"""The most plain runs between a call's first run and its capture: ONNX Runtime's arena grows in the
first two or three runs."""

Outputs = Mapping[str, NDArray[np.generic]]


class Work(Protocol):
    """The work of a call: the same kernels at the same addresses, time after time."""

    @property
    def outputs(self) -> Mapping[str, Buffer]:
        """The buffers that the work writes; its inputs are left as they are."""
        ...

    def enqueue(self, *, capturing: bool) -> None:
        """Enqueue the work on its stream. Raises DeviceError."""
        ...

    def open_anew(self) -> None:
        """Open the work's session or context again, for plain runs alone. Raises DeviceError."""
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
        """Run every call plainly from now on; the caller reports the reason."""
        self._wanted = False

    def run_plainly(self, work: Work) -> None:
        """Run the work without a graph. Raises DeviceError.

        A run that fails right after a failed capture is tried once more with the library opened
        anew: the failure may come from remains of the capture, and not from the device.
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
        """`at` names the call's shapes for people, and is unique among the engine's calls."""
        self._at = at
        self._graphs = graphs
        self._work = work
        self._graph: Graph | None = None
        self._was_proven = False
        self._proven_beside = 0
        self._noise = graphs.noise
        """The largest distance seen between plain runs, and at least the library's known noise."""
        self._has_run = False

    def run(self) -> None:
        """Enqueue the call. Raises DeviceError."""
        if self._graph is None:
            self.run_plainly()
            if self._graphs.wanted(self._at):
                self._capture()
        elif self._is_new_beside_others():
            self._prove_beside_others(self._graph)
        else:
            self._graph.launch(self._graphs.stream)

    def run_plainly(self) -> None:
        """Enqueue the call, and capture nothing. Raises DeviceError."""
        graphs = self._graphs
        graphs.last_plain = self._at
        graphs.run_plainly(self._work)
        if not self._has_run:
            self._has_run = True
            graphs.calls += 1

    def forget(self) -> None:
        """Drop the graph, which must not be running; the next run captures anew."""
        if self._graph is not None:
            self._graph.destroy()
            self._graph = None

    def _capture(self) -> None:
        """Capture and prove the call; either way, its outputs are then valid for its inputs."""
        graphs = self._graphs
        self._settle()
        for attempt in range(1, ATTEMPTS + 1):
            expected = self._read()
            seen = graphs.device.cuda.releases
            try:
                graph = capture(graphs.stream, lambda: self._work.enqueue(capturing=True))
            except CaptureError as error:
                graphs.device.spoilt = True
                if lacks_memory(str(error)):
                    graphs.device.cuda.release_spare(seen)
                self.run_plainly()
                if attempt == ATTEMPTS or not graphs.wanted(self._at):
                    graphs.give_up(self._at, str(error))
                    return
            else:
                self._graph = graph
                self._prove(graph, expected)
                return

    def _settle(self) -> None:
        """Run the call plainly until a run takes no more memory of the device.

        Memory that others take at the same time costs one more plain run.
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
        """Compare a new graph's replay with `expected`, the outputs of a plain run before it.

        In a call's first proof, one more plain run comes between the two.
        """
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
        """Compare a replay with later plain runs, after other calls used the library's memory."""
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
        """Raise the noise to the distance of the last plain run from `expected`, another one."""
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
            # A graph that writes nothing must not pass with the outputs that a plain run left.
            graphs.stream.zero(buffer.memory.address, buffer.memory.size_bytes)
        with graphs.device.trial(graphs.role):
            try:
                graph.launch(graphs.stream)
                return self._read()
            except DeviceError as error:
                self._survive(error)
                return None

    def _survive(self, error: DeviceError) -> None:
        """Run plainly after a replay that failed. Raises GraphError where the device is lost."""
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
    """The distance of outputs: the mean absolute difference, relative to the largest expected
    magnitude; the largest of several outputs. Infinite where elements that are not finite differ,
    or the expected ones are all 0 and those found are not.
    """
    return max((_distance(found[name], each) for name, each in expected.items()), default=0.0)


def _distance(found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    if found.tobytes() == expected.tobytes():
        return 0.0
    # A wrong output may hold any bits, such as those of a signalling NaN.
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
