"""Opening of models on the worker's device, each with all that its pictures are drawn with."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

from runtime.backends.catalog import Choice, choose, open_backend
from runtime.backends.devices import Devices, find_devices
from runtime.backends.opened_files import opened_files
from runtime.backends.protocol import Backend, OnDevice, TrialListener
from runtime.draw.conditioning import Lookups
from runtime.draw.costs import Costs
from runtime.draw.cpu_trial import try_cpu
from runtime.draw.decode_room import decode_room, free_bytes
from runtime.draw.denoise import StepEvent
from runtime.draw.generate import Generator
from runtime.draw.kept_costs import KeptCosts, compiled_times
from runtime.draw.room import SHARE
from runtime.errors import PackageError
from runtime.files import read_ahead
from runtime.package.manifest import ModelPackage, load_package
from runtime.plan.call_room import call_room
from runtime.plan.model import Model, open_model
from runtime.plan.served import Served, served_by
from runtime.wire.messages import Ready
from runtime.wire.options import DrawOptions, WorkerOptions
from runtime.worker.place import memory_share
from runtime.worker.pulse import Pulse
from runtime.worker.shelf_room import ModelNeeds, ShelfRoom, model_needs
from runtime.worker.watch import Watch

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Opened:
    """A model with its engines open, and what a worker knows of it."""

    generator: Generator
    ready: Ready
    kept: KeptCosts
    """Takes the times of its steps."""
    lookups: Lookups
    """Those of its prompts that were told already."""
    turns: Iterator[tuple[StepEvent, ...]] | None = None
    """Its denoising loop, while there are samples in it."""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.generator.model.name


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens models as a worker's options say."""

    options: WorkerOptions
    pulse: Pulse
    trials: TrialListener
    watch: Watch

    def open(self, name: str, *, awaited: bool = False) -> Opened:
        """Load a model onto its device and warm it up. A job that has `awaited` the model is its
        first picture on a CPU, where warming up would take longer than it saves.

        Raises PackageError, BackendError.
        """
        # Each model's loading is a kind of its own: none says how long another's may take.
        of = "" if name == self.options.model else f" of {name}"
        with self.watch.stage(f"reading the package{of}"):
            model = open_model(self.options.engines, name)
        draw, devices = self.options.draw, find_devices()
        with self.watch.stage(f"trying what draws fastest on the CPU{of}"):
            try_cpu(model, draw.backend, devices, draw.cpu_precision, logger.info)
        choice = self._chosen(model.package, devices)
        if choice.gpu is None:
            draw = replace(draw, memory_bytes=memory_share(self.options.place, draw.memory_bytes))
        logger.info("%s", choice.note)
        read_ahead(opened_files(model.package, choice.target))
        with self.watch.stage(f"opening the backend{of}"):
            backend = open_backend(
                model.package, choice, captures=draw.captures, text_encoders=draw.text_encoders
            )
        if isinstance(backend, OnDevice):
            self.pulse.device = backend
            backend.watch_trials(self.trials)
        with self.watch.stage(f"opening the networks{of}"):
            generator = _generator(model, backend, draw, choice)
        if isinstance(backend, OnDevice) or not awaited:
            with self.watch.stage(f"warming up{of}"):
                generator.warm_up()
        ready = _ready(generator, choice)
        kept = self._kept(generator, ready)
        generator.schedule.costs.learn(kept.read())
        return Opened(generator, ready, kept, generator.conditioner.lookups)

    def room(self, first: Opened) -> ShelfRoom:
        """The memory for models once the first one is open, and what each of them takes. Raises
        PackageError, BackendError.
        """
        devices = find_devices()
        packages = [load_package(self.options.engines, name) for name in self.options.others]
        packages.insert(0, first.generator.model.package)
        choices = [self._chosen(package, devices) for package in packages]
        needs = {
            package.manifest.name: model_needs(choice, package.manifest)
            for package, choice in zip(packages, choices, strict=True)
        }
        memory = self.options.model_bytes or self._memory(first, needs[first.name])
        for package, choice in list(zip(packages, choices, strict=True))[1:]:
            read_ahead(opened_files(package, choice.target)).join()
        return ShelfRoom(memory, needs)

    def _memory(self, first: Opened, needs: ModelNeeds) -> int | None:
        """The memory of the first model, with what is free beside it."""
        backend = first.generator.backend
        free = free_bytes(backend)
        if free is None:
            return None
        share = 1.0 if isinstance(backend, OnDevice) else SHARE / self.options.place.of
        return needs.weights + int(share * free)

    def _chosen(self, package: ModelPackage, devices: Devices) -> Choice:
        draw = self.options.draw
        return choose(package, draw.backend, devices, draw.cpu_precision)

    def _kept(self, generator: Generator, ready: Ready) -> KeptCosts:
        subject = (generator.model.package.digest, ready.backend, ready.target, ready.device)
        return KeptCosts(self.options.data / "step_times.json", " ".join(subject))


def _generator(model: Model, backend: Backend, draw: DrawOptions, choice: Choice) -> Generator:
    served = _without_loras(served_by(choice.target, model.manifest), model, backend)
    costs = Costs(compiled_times(choice.target))
    room = decode_room(choice.target, model.manifest)
    needs = call_room(choice.target, model.manifest)
    return Generator(model, backend, draw, served, costs, room=room, needs=needs)


def _ready(generator: Generator, choice: Choice) -> Ready:
    backend = generator.backend
    notes = (choice.note, backend.placing.note, _told(generator), *generator.tilings)
    return Ready(
        backend=choice.backend,
        target=choice.target_name,
        device=choice.device,
        precision=choice.precision,
        note="; ".join(filter(None, notes)),
        served=generator.served.to_json(),
        shortfalls=list(backend.shortfalls) if isinstance(backend, OnDevice) else [],
    )


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
