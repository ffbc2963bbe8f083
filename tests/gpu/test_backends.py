"""Every backend that is here, on the demo model: pictures, graphs, LoRAs, the server."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.protocol import OnDevice
from runtime.draw.generate import Generator
from tests.api.live import LiveServer, Options
from tests.gpu.conftest import Compiled
from tests.gpu.drawing import SIZE, drawn

PIXELS = 3.0
"""The mean difference from ONNX Runtime in fp32, in levels of 255, that fp16 may make."""

NOISE = 0.1
"""Likewise between two drawings of one request, where a library adds in no fixed order."""

TENSORRT = "tensorrt"
"""The beginning of its flavours' names."""

CALOTYPE = (sys.executable, "-c", "import sys; from api.cli import main; sys.exit(main())")
"""The command `calotype` for a machine on which the project is unpacked and not installed."""


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours.astype(int) - theirs).mean())


def check_same(demo: Compiled, ours: np.ndarray, theirs: np.ndarray, levels: int = 0) -> None:
    """But for some levels, or of ONNX Runtime for noise: the sums of its group norms are atomic."""
    if demo.choice.backend.startswith(TENSORRT):
        assert np.abs(ours.astype(int) - theirs).max() <= levels
    else:
        assert distance(ours, theirs) <= NOISE


@pytest.fixture(scope="module")
def generator(demo: Compiled) -> Generator:
    return demo.generator()


@pytest.fixture(scope="module")
def reference(demo: Compiled) -> Generator:
    return Generator(demo.model, OnnxRuntimeCpu(demo.model.package))


@pytest.mark.parametrize("body", [{}, {"cfg_scale": 1.0}, {"sampler": "dpm++_2m"}], ids=str)
def test_a_picture_is_that_of_onnx_runtime_on_the_cpu(
    body: dict[str, object], generator: Generator, reference: Generator
) -> None:
    assert distance(drawn(generator, **body), drawn(reference, **body)) <= PIXELS


def test_a_graph_gives_what_the_plain_run_gave(demo: Compiled) -> None:
    plain = drawn(demo.generator(captures=False), steps=1)
    fresh = demo.generator()
    for _ in range(3):
        check_same(demo, drawn(fresh, steps=1), plain)
    assert isinstance(fresh.backend, OnDevice)
    # What cannot be captured runs plainly, and gives the same.
    assert list(fresh.backend.shortfalls) == []


def test_graphs_of_several_shapes_are_replayed_in_turns(demo: Compiled) -> None:
    """A library may remake for one shape memory that another shape's graph still uses."""
    bodies: tuple[dict[str, object], ...] = ({"steps": 1}, {"steps": 1, "cfg_scale": 1.0})
    without = demo.generator(captures=False)
    plain = [drawn(without, **body) for body in bodies]
    fresh = demo.generator()
    for body, expected in [*zip(bodies, plain, strict=True)] * 3:
        check_same(demo, drawn(fresh, **body), expected)
    assert isinstance(fresh.backend, OnDevice)
    # One that differed would have been dropped, and its call have run plainly.
    assert list(fresh.backend.shortfalls) == []


def test_loras_come_and_go_and_leave_nothing_behind(
    demo: Compiled, generator: Generator, reference: Generator
) -> None:
    ids = [offer.id for offer in generator.model.loras()]
    first: dict[str, object] = {"loras": [{"id": ids[0], "weight": 1.0}]}
    other: dict[str, object] = {"loras": [{"id": ids[-1], "weight": 1.0}]}
    base, with_first = drawn(generator), drawn(generator, **first)
    assert distance(with_first, base) > distance(base, drawn(reference))
    assert distance(with_first, drawn(reference, **first)) <= PIXELS
    drawn(generator, **other)
    check_same(demo, drawn(generator, **first), with_first)
    check_same(demo, drawn(generator), base, levels=1)


def test_embeddings_act_and_leave_nothing_behind(
    demo: Compiled, generator: Generator, reference: Generator
) -> None:
    (word,) = generator.model.inversions.inversions()
    named: dict[str, object] = {"prompt": f"{word.name}, a red heart on a blue background"}
    base, with_word = drawn(generator), drawn(generator, **named)
    assert distance(with_word, base) > distance(base, drawn(reference))
    assert distance(with_word, drawn(reference, **named)) <= PIXELS
    check_same(demo, drawn(generator), base, levels=1)
    check_same(demo, drawn(generator, **named), with_word)


def test_whether_a_graph_sees_weights_that_were_replaced_after_it(
    demo: Compiled, record_property: Callable[[str, object], None]
) -> None:
    """Not asserted but found out: where it does, capturing anew after a refit can go."""
    if not demo.choice.backend.startswith(TENSORRT):
        pytest.skip("replaced weights keep their addresses, and graphs stay")
    command = [sys.executable, "-m", "tests.gpu.graph_and_refit"]
    command += [str(demo.engines), demo.choice.backend]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    words = (done.stdout or done.stderr).strip().splitlines()
    record_property("graphs see replaced weights", words[-1] if words else done.returncode)


def test_what_a_shape_that_is_new_takes(
    demo: Compiled, record_property: Callable[[str, object], None]
) -> None:
    """Not asserted but found out: how many shapes are worth keeping, and a warm-up making ready."""
    fresh = demo.generator()
    assert isinstance(fresh.backend, OnDevice)
    drawn(fresh, steps=1)
    free = fresh.backend.device_memory()["free"]
    times = []
    for _ in range(3):
        began = perf_counter()
        drawn(fresh, steps=1, cfg_scale=1.0)
        times.append(round((perf_counter() - began) * 1000, 1))
    taken = (free - fresh.backend.device_memory()["free"]) / 2**20
    record_property("milliseconds of a new shape's first pictures", times)
    record_property("MiB that a new shape takes", round(taken, 1))


def test_the_server_draws_with_it_and_says_so(demo: Compiled, tmp_path: Path) -> None:
    flags = ("--backend", demo.choice.backend, "--lease-seconds", "2")
    options = Options(demo.engines, tmp_path / "data", "demo", flags, CALOTYPE)
    with LiveServer(options) as server:
        engine = server.api.client.get("/api/info").json()["engine"]
        assert engine["backend"] == demo.choice.backend
        assert engine["target"] == demo.choice.target_name
        assert engine["device"] == demo.choice.device
        assert engine["note"].startswith(f"{demo.choice.note}; the engines take some ")
        assert engine["note"].endswith("(chosen by auto)")  # and no shortfall behind it
        assert server.api.draw(**SIZE)
        _, events = server.api.draw_told(**SIZE)
        previews = [event for event in events if event.data.get("preview")]
        assert previews
        page = server.api.client.get("/metrics").text
        assert 'calotype_device_memory_bytes{use="weights"' in page
