"""`python -m runtime.worker.main`: opens the model on its device and runs a worker over it.

The supervisor starts it with one end of a socket pair; it is of no use by hand.
"""

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from runtime.backends.catalog import WISHES, BackendWish, choose, open_backend
from runtime.backends.devices import find_devices
from runtime.backends.protocol import OnDevice
from runtime.draw.generate import Generator
from runtime.errors import BackendError, CalotypeError, DeviceError, GraphError, PackageError
from runtime.gallery import Gallery
from runtime.plan.model import open_model
from runtime.plan.served import served_by
from runtime.wire.link import WorkerLink
from runtime.wire.messages import Broken, LinkError, Ready, Trial
from runtime.worker.loop import Pulse, Worker

EXIT_BROKEN = 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What the supervisor tells a worker."""

    engines: Path
    model: str
    data: Path
    backend: BackendWish
    max_batch: int | None
    lora_bytes: int
    conditioning_bytes: int
    heartbeat_seconds: float
    captures: bool = True
    """Whether work is captured as CUDA graphs."""

    def arguments(self, descriptor: int) -> list[str]:
        """The command line; `descriptor` is the worker's end of the socket pair."""
        arguments = [
            *("--engines", str(self.engines), "--model", self.model, "--data", str(self.data)),
            *("--heartbeat-seconds", str(self.heartbeat_seconds), "--link", str(descriptor)),
            *("--backend", self.backend),
            *("--lora-bytes", str(self.lora_bytes)),
            *("--conditioning-bytes", str(self.conditioning_bytes)),
        ]
        if self.max_batch is not None:
            arguments += ["--max-batch", str(self.max_batch)]
        if not self.captures:
            arguments.append("--no-cuda-graphs")
        return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM (0), or until something breaks (1)."""
    logging.basicConfig(level=logging.INFO, format="worker: %(levelname)s: %(message)s")
    arguments = _parser().parse_args(argv)
    options = WorkerOptions(
        engines=arguments.engines,
        model=arguments.model,
        data=arguments.data,
        backend=arguments.backend,
        max_batch=arguments.max_batch,
        lora_bytes=arguments.lora_bytes,
        conditioning_bytes=arguments.conditioning_bytes,
        heartbeat_seconds=arguments.heartbeat_seconds,
        captures=not arguments.no_cuda_graphs,
    )
    link = WorkerLink(socket.socket(fileno=arguments.link))
    try:
        _work(options, link)
    except LinkError as error:
        logger.info("%s", error)
    except _Refused as refusal:
        link.send(Broken(_line(refusal), lasting=True))
        return EXIT_BROKEN
    # Whatever it is, the server has to hear of it before this process ends.
    except Exception as error:
        logger.exception("the worker has to exit")
        of_graph = isinstance(error, GraphError)
        link.send(Broken(_line(error), lasting=False, of_graph=of_graph))
        return EXIT_BROKEN
    return 0


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class _Refused(CalotypeError):
    """The model or its backend cannot be opened, and another try would end the same way."""


def _work(options: WorkerOptions, link: WorkerLink) -> None:
    pulse = Pulse(link, options.heartbeat_seconds)
    try:
        ready, generator = _open(options, pulse, link)
    except DeviceError:
        raise
    except (PackageError, BackendError) as error:
        raise _Refused(str(error)) from error
    gallery = Gallery(options.data)
    gallery.remove_unfinished()
    worker = Worker(generator, gallery, link)

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        worker.stop()

    signal.signal(signal.SIGTERM, terminate)
    link.send(ready)
    worker.run(generator.places)


@dataclass(frozen=True, slots=True)
class _Trials:
    """Tells the server of the first launches of CUDA graphs."""

    link: WorkerLink

    def begun(self, role: str) -> None:
        """A graph of this role is about to be launched."""
        self.link.send(Trial(role, over=False))

    def over(self, role: str) -> None:
        """It was launched, and the process lives."""
        self.link.send(Trial(role, over=True))


def _open(options: WorkerOptions, pulse: Pulse, link: WorkerLink) -> tuple[Ready, Generator]:
    """Load the model onto its device and warm it up; what the server is told of it."""
    model = open_model(options.engines, options.model)
    choice = choose(model.package, options.backend, find_devices())
    logger.info("%s", choice.note)
    backend = open_backend(model.package, choice, captures=options.captures)
    if isinstance(backend, OnDevice):
        pulse.device = backend
        backend.watch_trials(_Trials(link))
    served = served_by(choice.target, model.package.manifest)
    generator = Generator(
        model,
        backend,
        options.max_batch,
        lora_bytes=options.lora_bytes,
        conditioning_bytes=options.conditioning_bytes,
        served=served,
    )
    generator.warm_up()
    ready = Ready(
        backend=choice.backend,
        target=choice.target_name,
        device=choice.device,
        precision=choice.precision,
        note=choice.note,
        served=served.to_json(),
        shortfalls=list(backend.shortfalls) if isinstance(backend, OnDevice) else [],
    )
    return ready, generator


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backend", choices=WISHES, required=True)
    parser.add_argument("--max-batch", type=int)
    parser.add_argument("--no-cuda-graphs", action="store_true")
    parser.add_argument("--lora-bytes", type=int, required=True)
    parser.add_argument("--conditioning-bytes", type=int, required=True)
    parser.add_argument("--heartbeat-seconds", type=float, required=True)
    parser.add_argument("--link", type=int, required=True)
    return parser


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Threads may still hold a device that failed: waiting for them could take forever.
    os._exit(code)
