"""CUDA graphs on a fake of CUDA: when they are captured and proven, and what a failure costs."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.device import Device
from runtime.backends.device.replay import SETTLING, Graphs, Replay, distance
from runtime.backends.device.staging import Buffer, Uploads, reading
from runtime.backends.device.stream import Stream
from runtime.errors import DeviceError, GraphError
from tests.fakes.cuda import FakeCuda, FakeError, FakeRuntime

SIZE = 4


@dataclass
class Machine:
    """A device with one engine on it, whose library has a copy of CUDA's runtime of its own."""

    fake: FakeCuda = field(default_factory=FakeCuda)
    captures: bool = True
    noise: float = 0.0

    def __post_init__(self) -> None:
        self.vendor = FakeRuntime(self.fake)
        cuda = Cuda(self.fake, self.fake, lambda: [self.vendor.last_error])
        self.device = Device(cuda, captures=self.captures)
        self.stream = Stream(cuda, urgent=True)
        self.graphs = Graphs(self.device, self.stream, "denoiser", self.noise)
        self.uploads = Uploads(self.device.pinned, self.stream)

    def call(self, at: str = "batch 1") -> "Call":
        return Call(self, at)


class Call:
    """Doubles what is in its input, by the vendor's library."""

    def __init__(self, machine: Machine, at: str) -> None:
        self.machine = machine
        cuda = machine.device.cuda
        self.input, self.output = (
            Buffer(cuda.allocate(4 * SIZE, "buffers"), (SIZE,), np.dtype(np.float32))
            for _ in range(2)
        )
        self.factor = [2.0]
        self.in_capture: Callable[[], None] = lambda: None
        self.in_plain_run: Callable[[], None] = lambda: None
        self.captured_factor: list[float] | None = None
        """The factor of captured runs, when it differs from that of plain runs."""
        self.plain_runs = 0
        self.opened = 0
        self.replay = Replay(machine.graphs, self, at)

    @property
    def outputs(self) -> dict[str, Buffer]:
        return {"doubled": self.output}

    def enqueue(self, *, capturing: bool) -> None:
        if capturing:
            self.in_capture()
        else:
            self.plain_runs += 1
            self.in_plain_run()
        factor = self.factor
        if capturing and self.captured_factor is not None:
            factor = self.captured_factor
        vendor, fake = self.machine.vendor, self.machine.fake
        source, target = self.input.memory, self.output.memory

        def work() -> None:
            values = fake.view(source.address, source.size_bytes).view(np.float32)
            fake.view(target.address, target.size_bytes).view(np.float32)[:] = values * factor[0]

        # As every kernel of a library does, which asks for the last error behind itself.
        for code in (vendor.last_error(), vendor.launch(self.machine.stream.address, work)):
            if code:
                raise DeviceError(f"denoiser: Slice: {code.name}")

    def open_anew(self) -> None:
        self.opened += 1

    def run(self, value: float) -> list[float]:
        """Run it on an input that is full of a value; its output."""
        machine = self.machine
        content = np.full(SIZE, value, np.float32)
        machine.uploads.put(content, self.input.memory.address)
        machine.uploads.end_round()
        self.replay.run()
        found: list[float] = reading(machine.device.pinned, machine.stream, self.output)().tolist()
        return found


def doubled(value: float) -> list[float]:
    return [2 * value] * SIZE


def told(machine: Machine) -> list[str]:
    return list(machine.device.shortfalls)


def test_a_graph_serves_once_it_was_proven() -> None:
    machine = Machine()
    call = machine.call()
    assert call.run(1.0) == doubled(1.0)
    assert (machine.fake.captures, machine.fake.launches) == (1, 1)
    plain = call.plain_runs
    for value in (3.0, 4.0):
        assert call.run(value) == doubled(value)
    assert (call.plain_runs, machine.fake.launches) == (plain, 3)
    assert told(machine) == []


def test_without_captures_everything_runs_plainly() -> None:
    machine = Machine(captures=False)
    call = machine.call()
    for value in (1.0, 3.0):
        assert call.run(value) == doubled(value)
    assert (call.plain_runs, machine.fake.captures) == (2, 0)


@pytest.mark.parametrize("growing", [0, 1, 2, SETTLING - 1])
def test_it_is_run_plainly_until_the_library_takes_no_more_memory(growing: int) -> None:
    machine = Machine()
    call = machine.call()
    captured_after = []

    def grow() -> None:
        if call.plain_runs <= growing:
            machine.vendor.malloc(1024)

    call.in_plain_run = grow
    call.in_capture = lambda: captured_after.append(call.plain_runs)
    call.run(1.0)
    # The run that was asked for, and those that settle it: the last of them takes nothing.
    assert captured_after == [max(2, growing + 1)]


def test_a_library_that_always_takes_memory_is_captured_all_the_same() -> None:
    machine = Machine()
    call = machine.call()
    call.in_plain_run = call.in_capture = lambda: allocate(machine)
    assert call.run(1.0) == doubled(1.0)
    assert machine.fake.launches == 1
    assert told(machine) == []


def allocate(machine: Machine) -> None:
    code, _ = machine.vendor.malloc(1024)
    if code:
        raise DeviceError(f"denoiser: NhwcConv: Failed to allocate memory: {code.name}")


def refuse(_: Machine) -> None:
    raise DeviceError("denoiser: Concat node 'stack': at most 32 inputs, but got 33")


def wait(machine: Machine) -> None:
    code = machine.vendor.synchronize(machine.stream.address)
    raise DeviceError(f"denoiser: MemcpyToHost node 'copy': {code.name}")


def wait_unseen(machine: Machine) -> None:
    machine.vendor.synchronize(machine.stream.address)


def blunder(_: Machine) -> None:
    raise ValueError("no such\nnode as 'x'")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (refuse, "Concat node 'stack': at most 32 inputs, but got 33"),
        (wait, "MemcpyToHost node 'copy': cudaErrorStreamCaptureUnsupported"),
        (wait_unseen, "Slice: cudaErrorStreamCaptureUnsupported"),
        (blunder, "no such node as 'x'"),
    ],
)
def test_a_capture_that_fails_costs_nothing_but_the_graph(
    fault: Callable[[Machine], None], reason: str
) -> None:
    machine = Machine()
    call, other = machine.call(), machine.call("batch 2")
    call.in_capture = lambda: fault(machine)
    for value in (1.0, 3.0):
        assert call.run(value) == doubled(value)
    assert not machine.stream.is_capturing
    assert machine.vendor.last_error() == FakeError.cudaSuccess
    assert machine.fake.cudaGetLastError() == (FakeError.cudaSuccess,)
    assert machine.fake.graphs == 0
    assert call.opened == 0
    (sentence,) = told(machine)
    assert sentence.startswith("denoiser at batch 1 runs without a CUDA graph: ")
    assert sentence.endswith(reason)
    tried = machine.fake.captures
    # Nor is it tried again, when room was made for others and the call was made anew meanwhile.
    again = machine.call()
    assert again.run(5.0) == doubled(5.0)
    assert machine.fake.captures == tried
    assert other.run(6.0) == doubled(6.0)
    assert other.run(7.0) == doubled(7.0)
    assert machine.fake.launches == 2


def test_a_capture_that_fails_once_is_tried_once_more() -> None:
    machine = Machine()
    call = machine.call()
    faults = iter([refuse])
    call.in_capture = lambda: next(faults, lambda _: None)(machine)
    assert call.run(1.0) == doubled(1.0)
    assert machine.fake.launches == 1
    assert told(machine) == []


def test_who_ends_the_program_in_a_capture_finds_the_stream_as_it_was() -> None:
    machine = Machine()
    call = machine.call()

    def interrupt() -> None:
        raise KeyboardInterrupt

    call.in_capture = interrupt
    with pytest.raises(KeyboardInterrupt):
        call.run(1.0)
    assert not machine.stream.is_capturing
    call.in_capture = lambda: None
    assert call.run(3.0) == doubled(3.0)


def test_a_stream_whose_capture_cannot_be_ended_is_replaced() -> None:
    class Stuck(FakeCuda):
        def cudaStreamEndCapture(self, stream: int) -> tuple[FakeError, int | None]:  # noqa: ARG002, N802
            return FakeError.cudaErrorStreamCaptureWrongThread, None

    machine = Machine(Stuck())
    call = machine.call()
    before = machine.stream.address
    for value in (1.0, 3.0):
        assert call.run(value) == doubled(value)
    assert machine.stream.address != before
    assert not machine.stream.is_capturing
    assert "cudaErrorStreamCaptureWrongThread" in told(machine)[0]


def test_a_plain_run_that_fails_behind_a_failed_capture_is_tried_once_more_opened_anew() -> None:
    machine = Machine()
    call = machine.call()
    call.in_capture = lambda: refuse(machine)
    failed: list[str] = []

    def fail_behind_it() -> None:
        if machine.device.spoilt and not call.opened:
            failed.append("once")
            raise DeviceError("denoiser: Slice: cudaErrorStreamCaptureUnsupported")

    call.in_plain_run = fail_behind_it
    for value in (1.0, 3.0):
        assert call.run(value) == doubled(value)
    assert failed == ["once"]
    assert call.opened == 1
    assert any("was opened again and runs without CUDA graphs" in each for each in told(machine))
    # Its library was opened for plain runs alone.
    captured = machine.fake.captures
    other = machine.call("batch 2")
    assert other.run(1.0) == doubled(1.0)
    assert machine.fake.captures == captured


def test_a_plain_run_that_fails_by_itself_is_the_devices_fault() -> None:
    machine = Machine()
    call = machine.call()
    call.in_plain_run = lambda: refuse(machine)
    with pytest.raises(DeviceError):
        call.run(1.0)
    assert call.opened == 0


def test_a_failed_capture_excuses_no_fault_of_another_thread() -> None:
    """Errors are kept for each thread, and so is what may be their cause."""
    machine = Machine()
    call, other = machine.call(), machine.call("batch 2")
    runs: list[Future[list[float]]] = []

    def run_the_other_on_a_thread_of_its_own() -> None:
        if machine.device.spoilt and not runs:
            other.in_plain_run = lambda: refuse(machine)
            with ThreadPoolExecutor(1) as pool:
                runs.append(pool.submit(other.run, 3.0))

    call.in_capture = lambda: refuse(machine)
    call.in_plain_run = run_the_other_on_a_thread_of_its_own
    assert call.run(1.0) == doubled(1.0)
    with pytest.raises(DeviceError):
        runs[0].result()
    assert other.opened == 0


def test_a_failed_capture_excuses_no_fault_that_comes_later() -> None:
    machine = Machine()
    call = machine.call()
    call.in_capture = lambda: refuse(machine)
    call.run(1.0)
    call.in_plain_run = lambda: refuse(machine)
    with pytest.raises(DeviceError):
        call.run(3.0)
    assert call.opened == 0


def test_one_that_fails_again_opened_anew_is_the_devices_fault() -> None:
    machine = Machine()
    call = machine.call()
    call.in_capture = lambda: refuse(machine)
    call.in_plain_run = lambda: refuse(machine) if machine.fake.captures else None
    with pytest.raises(DeviceError):
        call.run(1.0)
    assert call.opened == 1


@pytest.mark.parametrize("factor", [2.1, 0.0, float("nan")])
def test_a_graph_that_differs_from_the_plain_run_is_dropped_and_told(factor: float) -> None:
    machine = Machine()
    call = machine.call()
    call.captured_factor = [factor]
    for value in (1.0, 3.0):
        assert call.run(value) == doubled(value)
    assert (machine.fake.launches, machine.fake.graphs) == (1, 0)
    assert "its replay was off by" in told(machine)[0]


def test_a_graph_that_writes_nothing_is_found_out() -> None:
    machine = Machine()
    call = machine.call()

    def leave() -> None:
        machine.fake.streams[machine.stream.address].capture.work = Nothing()  # type: ignore[union-attr,assignment]

    class Nothing(list[Callable[[], None]]):
        def append(self, _: Callable[[], None]) -> None:
            pass

    call.in_capture = leave
    assert call.run(1.0) == doubled(1.0)
    assert "its replay was off by" in told(machine)[0]


def test_what_plain_runs_differ_by_is_allowed_to_a_replay() -> None:
    machine = Machine(noise=1e-3)
    call = machine.call()
    call.captured_factor = [2.0 * (1 + 5e-4)]
    call.run(1.0)
    assert told(machine) == []
    noisy = Machine()
    other = noisy.call()
    other.captured_factor = [2.0 * (1 + 5e-4)]

    def differ() -> None:
        other.factor = [2.0 * (1 + 1e-3 * (other.plain_runs % 2))]

    other.in_plain_run = differ
    other.run(1.0)
    assert told(noisy) == []


def test_what_plain_runs_differed_by_is_known_when_a_graph_is_captured_anew() -> None:
    """As after weights were replaced, when a single plain run comes before the capture."""
    machine = Machine()
    call = machine.call()

    def differ() -> None:
        call.factor = [2.0 * (1 + 1e-3 * (call.plain_runs % 2))]

    call.in_plain_run = differ
    call.captured_factor = [2.0 * (1 + 5e-4)]
    call.run(1.0)
    call.replay.forget()
    call.run(1.0)
    assert machine.fake.graphs == 1
    assert told(machine) == []


def test_what_plain_runs_differed_by_once_is_allowed_beside_others_too() -> None:
    """Two plain runs may happen to agree, and the replay to be as far off as others were before."""
    machine = Machine()
    call, other = machine.call(), machine.call("batch 2")

    def differ() -> None:
        call.factor = [2.0 * (1 + 1e-3 * (call.plain_runs % 2))]

    call.in_plain_run = differ
    call.captured_factor = [2.0 * (1 + 5e-4)]
    call.run(1.0)
    other.run(1.0)
    call.in_plain_run = lambda: None
    call.run(1.0)
    assert told(machine) == []


def test_a_graph_is_held_to_the_plain_run_once_more_when_others_have_run() -> None:
    """A library may give the memory that a graph reads to another call's plain run."""
    machine = Machine()
    call = machine.call()
    call.captured_factor = [2.0]
    assert call.run(1.0) == doubled(1.0)
    launched = machine.fake.launches
    other = machine.call("batch 2")
    table = call.captured_factor

    def take_it() -> None:
        table[0] = 7.0

    other.in_plain_run = take_it
    # A plain run of its own takes the memory back, and would hide that.
    call.in_plain_run = lambda: table.__setitem__(0, 2.0)
    assert other.run(1.0) == doubled(1.0)
    for value in (3.0, 4.0):
        assert call.run(value) == doubled(value)
    assert (
        "denoiser at batch 1 runs without a CUDA graph: its replay was off by" in told(machine)[0]
    )
    assert len(told(machine)) == 1
    assert machine.fake.launches == launched + 2


def test_graphs_beside_one_another_are_proven_once_and_serve() -> None:
    machine = Machine()
    calls = [machine.call(f"batch {count}") for count in (1, 2)]
    for value in (1.0, 3.0, 4.0):
        for call in calls:
            assert call.run(value) == doubled(value)
    plain = [call.plain_runs for call in calls]
    for value in (5.0, 6.0):
        for call in calls:
            assert call.run(value) == doubled(value)
    assert [call.plain_runs for call in calls] == plain
    assert told(machine) == []


def test_a_replay_that_cannot_be_launched_runs_plainly() -> None:
    machine = Machine()
    call = machine.call()
    machine.fake.failures["cudaGraphLaunch"] = FakeError.cudaErrorInvalidValue
    for value in (1.0, 3.0):
        assert call.run(value) == doubled(value)
    assert "its replay failed: cudaGraphLaunch" in told(machine)[0]
    assert machine.vendor.last_error() == FakeError.cudaSuccess


def test_a_replay_that_takes_the_device_with_it_is_told_before() -> None:
    machine = Machine()
    trials: list[str] = []

    class Listener:
        def begun(self, role: str) -> None:
            trials.append(f"{role} begun")

        def over(self, role: str) -> None:
            trials.append(f"{role} over")

    machine.device.trials = Listener()
    call = machine.call()
    call.run(1.0)
    assert trials == ["denoiser begun", "denoiser over"]
    other = machine.call("batch 2")

    def lose() -> None:
        machine.fake.enqueue(machine.stream.address, lambda: machine.fake.view(1, 1) and None)

    other.in_capture = lose
    with pytest.raises(GraphError, match="a new CUDA graph took the device"):
        other.run(1.0)
    assert trials == ["denoiser begun", "denoiser over"] * 2


def test_distances() -> None:
    ones = np.ones((2, 2), np.float32)

    def off(found: list[float], expected: list[float]) -> float:
        return distance({"x": np.array(found)}, {"x": np.array(expected)})

    assert distance({"x": ones, "y": ones}, {"x": ones, "y": 2 * ones}) == 0.5
    assert off([1.0, 4.0], [1.0, 2.0]) == 0.5
    assert off([0.0], [-0.0]) == 0.0
    assert off([float("nan"), 1.0], [float("nan"), 1.0]) == 0.0
    assert off([float("nan"), 1.5], [float("nan"), 1.0]) == 0.5
    for found, expected in (([1.0], [float("nan")]), ([float("nan")], [1.0]), ([1.0], [0.0])):
        assert off(found, expected) == float("inf")


def test_memory_that_can_be_done_without_makes_room_for_a_graph() -> None:
    machine = Machine()
    call = machine.call()
    spare = [True]

    def fail_beside_spare() -> None:
        if spare:
            raise DeviceError("cudaGraphInstantiate: cudaErrorMemoryAllocation: out of memory")

    def give_back() -> bool:
        return bool(spare) and not spare.clear()

    call.in_capture = fail_beside_spare
    machine.device.cuda.on_shortage(give_back)
    assert call.run(1.0) == [2.0] * SIZE
    assert machine.fake.graphs == 1
    assert list(machine.device.shortfalls) == []
