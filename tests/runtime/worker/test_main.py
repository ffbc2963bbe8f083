"""The worker's entry point: what the server is told of its end, and of LoRAs it cannot draw."""

import json
import shutil
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runtime.backends.catalog import choose, open_backend
from runtime.backends.devices import Devices
from runtime.backends.placing import TextPlace
from runtime.errors import DeviceError
from runtime.logs import LogOptions
from runtime.plan.model import open_model
from runtime.plan.served import Served, served_by
from runtime.wire.link import WorkerLink
from runtime.wire.messages import Broken, Configure, Trial, encode
from runtime.wire.options import DrawOptions, WorkerOptions
from runtime.wire.server_link import send_options
from runtime.worker import main as entry
from runtime.worker import opening
from runtime.worker.opening import Opener
from runtime.worker.watch import Limits, Watch
from tests.places import ENGINES


@pytest.mark.parametrize(("over", "of_graph"), [(False, True), (True, False)])
def test_a_device_that_breaks_beside_a_graph_on_trial_is_laid_to_the_graph(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, over: bool, of_graph: bool
) -> None:
    links: list[WorkerLink] = []

    def work(_: WorkerOptions, link: WorkerLink, trials: entry._Trials) -> None:
        links.append(link)
        trials.begun("text_encoder")
        if over:
            trials.over("text_encoder")
        raise DeviceError("cudaErrorIllegalAddress")

    monkeypatch.setattr(entry, "_work", work)
    server, worker = socket.socketpair()
    send_options(server, WorkerOptions(tmp_path, "demo", tmp_path, 30))
    assert entry.main([str(worker.detach())]) == 1
    links.append(WorkerLink(server))
    said = [links[-1].receive() for _ in range(3 if over else 2)]
    for link in links:
        link.close()
    assert said[0] == Trial("text_encoder", over=False)
    assert said[-1] == Broken("cudaErrorIllegalAddress", lasting=False, of_graph=of_graph)


def test_loras_without_the_graphs_that_they_are_drawn_with_are_refused_with_the_remedy(
    tmp_path: Path,
) -> None:
    graphless = shutil.ignore_patterns(".graphs", "targets")
    shutil.copytree(ENGINES / "demo", tmp_path / "demo", ignore=graphless)
    refused = limits(tmp_path).fixed_weights
    assert refused is not None
    assert "engine-build lora prepare --model demo, and start the server again" in refused
    shutil.rmtree(tmp_path / "demo" / "loras")
    assert limits(tmp_path).fixed_weights is None
    assert limits(ENGINES).fixed_weights is None


@pytest.mark.parametrize("place", ["aside", "keep"])
def test_text_encoders_that_are_not_kept_are_told_with_their_cost(
    tmp_path: Path, place: TextPlace
) -> None:
    draw = DrawOptions(backend="onnxruntime-cpu", text_encoders=place)
    options = WorkerOptions(ENGINES, "demo", tmp_path, 30, draw)
    nobody: Any = None
    opened = Opener(options, nobody, nobody, Watch(Limits(60, 60))).open("demo")
    ready, generator = opened.ready, opened.generator
    told = "text encoders are put aside, and each new prompt waits until they are opened again"
    assert (told in ready.note) == (place == "aside")
    text = generator.conditioner.lookups
    cost = f"while warming up, a new prompt took {text.seconds / text.misses:.2f} s"
    assert ready.note.endswith(cost) == (place == "aside")


def limits(engines: Path) -> Served:
    """The limits of the demo model on the CPU, as a worker tells them."""
    model = open_model(engines, "demo")
    choice = choose(model.package, "onnxruntime-cpu", Devices((), "no GPU"))
    backend = open_backend(model.package, choice)
    return opening._without_loras(served_by(None, model.package.manifest), model, backend)


def test_an_end_that_nobody_foresaw_is_one_record_of_the_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    links: list[WorkerLink] = []

    def work(_: WorkerOptions, link: WorkerLink, __: entry._Trials) -> None:
        links.append(link)
        raise RuntimeError("of ours")

    monkeypatch.setattr(entry, "_work", work)
    server, worker = socket.socketpair()
    options = WorkerOptions(tmp_path, "demo", tmp_path, 30, logs=LogOptions("json", "error"))
    send_options(server, options)
    assert entry.main([str(worker.detach())]) == 1
    with closing(WorkerLink(server)) as link:
        assert link.receive() == Broken("of ours", lasting=False)
    links[0].close()
    [line] = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert (line["level"], line["process"]) == ("error", "worker")
    assert line["exception"].endswith("RuntimeError: of ours")


def test_options_that_cannot_be_read_are_told_to_the_server(tmp_path: Path) -> None:
    server, worker = socket.socketpair()
    options = WorkerOptions(tmp_path, "demo", tmp_path, 30).to_json()
    server.sendall(encode(Configure({**options, "lease_seconds": "long"})))
    assert entry.main([str(worker.detach())]) == 1
    with closing(WorkerLink(server)) as link:
        said = link.receive()
    assert isinstance(said, Broken)
    assert "lease_seconds" in said.detail
