"""`python -m runtime.worker.main`: opens the model on its device and runs a worker over it.

The supervisor starts the module with one end of a socket pair, through which the options come. The
module is of no use by hand.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import FrameType
from typing import NoReturn

from runtime.backends.catalog import choose, open_backend
from runtime.backends.devices import find_devices
from runtime.backends.opened_files import opened_files
from runtime.backends.protocol import Backend, OnDevice
from runtime.draw.costs import Costs
from runtime.draw.cpu_trial import try_cpu
from runtime.draw.decode_room import decode_room
from runtime.draw.generate import Generator
from runtime.draw.kept_costs import KeptCosts, compiled_times
from runtime.errors import (
    BackendError,
    CalotypeError,
    DeviceError,
    GraphError,
    PackageError,
    in_one_line,
)
from runtime.files import read_ahead
from runtime.gallery import Gallery
from runtime.logs import logging_to_stderr
from runtime.plan.call_room import call_room
from runtime.plan.model import Model, open_model
from runtime.plan.served import Served, served_by
from runtime.telemetry import disable_telemetry
from runtime.wire.link import WorkerLink
from runtime.wire.messages import Broken, LinkError, Ready, Trial
from runtime.wire.options import WorkerOptions
from runtime.worker.loop import Worker
from runtime.worker.place import memory_share, take_place
from runtime.worker.pulse import Pulse
from runtime.worker.watch import Limits, Watch

EXIT_BROKEN = 1

SWITCH_SECONDS = 0.0005
"""The longest that the loop's thread, back from a step, waits for another thread to leave Python.
The default of 5 ms is as long as a step may take.
"""

logger = logging.getLogger("runtime.worker.main")  # It runs as `__main__`.


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker until SIGTERM or a lost link (returns 0), or until a failure (returns 1)."""
    disable_telemetry()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("link", type=int, help="the descriptor of the worker's end of the socket")
    sys.setswitchinterval(SWITCH_SECONDS)
    link = WorkerLink(socket.socket(fileno=parser.parse_args(argv).link))
    try:
        options = link.receive_options()
    except LinkError:
        return 0  # The server has ended before it wanted a worker.
    except ValueError as error:
        link.send(Broken(_line(error), lasting=False))
        link.close()
        return EXIT_BROKEN
    with logging_to_stderr(options.logs, "worker"):
        return _run(options, link)


def _run(options: WorkerOptions, link: WorkerLink) -> int:
    """The worker's life; returns its exit code."""
    trials = _Trials(link)
    threading.excepthook = partial(_end_with_thread, link)
    try:
        _work(options, link, trials)
    except LinkError as error:
        logger.info("%s", error)
    except _Refused as refusal:
        link.send(Broken(_line(refusal), lasting=True))
        return EXIT_BROKEN
    # The server has to learn of any failure before this process ends.
    except Exception as error:
        logger.exception("the worker has to exit")
        # A graph on trial may break the device for whichever thread asks it next.
        on_trial = isinstance(error, DeviceError) and bool(trials.roles)
        of_graph = isinstance(error, GraphError) or on_trial
        link.send(Broken(_line(error), lasting=False, of_graph=of_graph))
        return EXIT_BROKEN
    return 0


def _line(error: Exception) -> str:
    return in_one_line(error) or type(error).__name__


def _end_with_thread(link: WorkerLink, failure: threading.ExceptHookArgs) -> None:
    """End the process whose thread has ended: what that thread did would never be done again."""
    error = failure.exc_value
    logger.error("the worker has to exit", exc_info=error)
    name = failure.thread.name if failure.thread else "a thread"
    reason = _line(error) if isinstance(error, Exception) else repr(error)
    with suppress(LinkError):
        link.send(Broken(f"{name}: {reason}", lasting=False))
    leave(EXIT_BROKEN)


class _Refused(CalotypeError):
    """The model or its backend cannot be opened, and another try would fail in the same way."""


def _work(options: WorkerOptions, link: WorkerLink, trials: "_Trials") -> None:
    take_place(options.place)
    watch = Watch(Limits(options.stall_seconds, options.load_seconds))
    pulse = Pulse(link, options.lease_seconds, watch, lambda: bool(trials.roles))
    try:
        ready, generator = _open(options, pulse, trials, watch)
    except DeviceError:
        raise
    except (PackageError, BackendError) as error:
        raise _Refused(str(error)) from error
    gallery = Gallery(options.data)
    if options.place.of == 1:  # Others may be writing.
        gallery.remove_unfinished()
    subject = (generator.model.package.digest, ready.backend, ready.target, ready.device)
    kept = KeptCosts(options.data / "step_times.json", " ".join(subject))
    generator.schedule.costs.learn(kept.read())
    worker = Worker(generator, gallery, link, kept, watch)

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        worker.stop()

    signal.signal(signal.SIGTERM, terminate)
    link.send(ready)
    worker.run()


@dataclass(frozen=True, slots=True)
class _Trials:
    """Reports the first launches of CUDA graphs to the server."""

    link: WorkerLink
    roles: list[str] = field(default_factory=list)
    """Roles whose graphs are on trial now, on whichever threads."""

    def begun(self, role: str) -> None:
        """A graph of this role is about to be launched."""
        self.roles.append(role)
        self.link.send(Trial(role, over=False))

    def over(self, role: str) -> None:
        """The graph was launched, and the process survived."""
        self.link.send(Trial(role, over=True))
        self.roles.remove(role)


def _open(
    options: WorkerOptions, pulse: Pulse, trials: _Trials, watch: Watch
) -> tuple[Ready, Generator]:
    """Load the model onto its device and warm it up; returns the report and the generator."""
    with watch.stage("reading the package"):
        model = open_model(options.engines, options.model)
    draw, devices = options.draw, find_devices()
    with watch.stage("trying what draws fastest on the CPU"):
        try_cpu(model, draw.backend, devices, draw.cpu_precision, logger.info)
    choice = choose(model.package, draw.backend, devices, draw.cpu_precision)
    if choice.gpu is None:
        draw = replace(draw, memory_bytes=memory_share(options.place, draw.memory_bytes))
    logger.info("%s", choice.note)
    read_ahead(opened_files(model.package, choice.target))
    with watch.stage("opening the backend"):
        backend = open_backend(
            model.package, choice, captures=draw.captures, text_encoders=draw.text_encoders
        )
    if isinstance(backend, OnDevice):
        pulse.device = backend
        backend.watch_trials(trials)
    served = _without_loras(served_by(choice.target, model.package.manifest), model, backend)
    costs = Costs(compiled_times(choice.target))
    room = decode_room(choice.target, model.package.manifest)
    needs = call_room(choice.target, model.package.manifest)
    with watch.stage("opening the networks"):
        generator = Generator(model, backend, draw, served, costs, room=room, needs=needs)
    with watch.stage("warming up"):
        generator.warm_up()
    notes = (choice.note, backend.placing.note, _told(generator), *generator.tilings)
    ready = Ready(
        backend=choice.backend,
        target=choice.target_name,
        device=choice.device,
        precision=choice.precision,
        note="; ".join(filter(None, notes)),
        served=generator.served.to_json(),
        shortfalls=list(backend.shortfalls) if isinstance(backend, OnDevice) else [],
    )
    return ready, generator


def _told(generator: Generator) -> str:
    """The measured cost of text encoders that are not kept, in words; empty where they are kept."""
    text = generator.conditioner.lookups
    if generator.backend.placing.place == "keep" or not text.misses:
        return ""
    return f"while warming up, a new prompt took {text.seconds / text.misses:.2f} s"


def _without_loras(served: Served, model: Model, backend: Backend) -> Served:
    """The same limits, LoRAs refused where the backend cannot draw those that the model has.

    A model without LoRAs gets with its first one all that drawing with LoRAs takes.
    """
    if not model.loras():
        return served
    try:
        backend.check_loras()
    except PackageError as error:
        return replace(served, fixed_weights=f"{error}, and start the server again")
    return served


def leave(code: int) -> NoReturn:
    """End this process at once, with this code.

    Threads may still run a network or wait for a device that failed: to join them may take for
    ever, and an interpreter that ends beside them may abort.
    """
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
