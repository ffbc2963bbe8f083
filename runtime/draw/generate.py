"""The generator: a model with its engines, from plans to step events and pictures."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from runtime.backends.protocol import Backend, OnDevice, Reading
from runtime.backends.rows import CPU, Opening, row_of
from runtime.draw.conditioning import Conditioner
from runtime.draw.costs import Costs
from runtime.draw.decode import Decoder, MatrixDecoder, NetworkDecoder, Pixels
from runtime.draw.decode_room import DecodeRoom, decode_room, free_bytes
from runtime.draw.denoise import Arrivals, Prepared, Sample, StepEvent, denoise
from runtime.draw.encoders import TextEncoders
from runtime.draw.extents import extents_of, filled
from runtime.draw.first_pictures import Body, of_each_size, skipped, with_a_lora
from runtime.draw.fitting import FittingDecoder
from runtime.draw.lora.switch import LoraSwitch
from runtime.draw.lora.weights import EffectiveWeights
from runtime.draw.pace import Pace
from runtime.draw.preview import Previewer
from runtime.draw.room import Room
from runtime.draw.roomy import RoomyDecoder, RoomyDenoiser, evaluations_that_fit, usual_call
from runtime.draw.schedule import Schedule
from runtime.machine import give_free_memory_back
from runtime.package.manifest import MatrixPreview
from runtime.plan.call_room import CallRoom, call_room
from runtime.plan.families.family import Conditioning
from runtime.plan.model import Model
from runtime.plan.plan import Plan
from runtime.plan.request import GenerateRequest
from runtime.plan.served import BatchLimits, Served, served_by
from runtime.wire.options import DrawOptions
from runtime.wire.tile_wish import TileWish

Latents = NDArray[np.float32]


class Generator:
    """A model with its engines open on one device."""

    def __init__(
        self,
        model: Model,
        backend: Backend,
        options: DrawOptions | None = None,
        served: Served | None = None,
        costs: Costs | None = None,
        *,
        room: DecodeRoom | None = None,
        needs: CallRoom | None = None,
    ) -> None:
        """Open every engine. `options` None: the defaults. `served` None: all that the graphs take.
        `costs` are what is known of calls' times. `room` is the VAE's; None: it decodes all whole.
        `needs` are the denoiser's; None: by its graph on the CPU, and unknown on a device.

        `backend` is already open: `options.backend`, `options.captures` and `options.text_encoders`
        have no effect here.
        """
        options = options or DrawOptions()
        served = served or served_by(None, model.package.manifest)
        self.model = model
        self.backend = backend
        denoiser, decoder = backend.open_denoiser(), backend.open("vae_decoder")
        self._closers = [denoiser.close, decoder.close]
        self.pace = Pace()
        self._noise = ThreadPoolExecutor(1, "noise")
        self._cold: list[Prepared] = []
        self.effective_weights = EffectiveWeights(
            model.package, options.lora_bytes, factored=backend.multiplies_updates
        )
        self._text_backend = _text_backend(model, backend)
        self._encoders = TextEncoders(
            model.family,
            self._text_backend,
            model.package.manifest,
            self.effective_weights,
            aside=backend.placing.place == "aside",
        )
        self.conditioner = Conditioner(self._encoders, options.conditioning_bytes)
        self.previewer = Previewer(self._preview_decoder())
        # Now that the weights are open, what is free is free for calls.
        on_device = isinstance(backend, OnDevice)
        free = partial(free_bytes, backend)
        self.room = Room(free, options.memory_bytes, on_device=on_device)
        tiles = room or decode_room(None, model.manifest)
        wish: TileWish = options.vae_tile if room else "off"
        roomy = RoomyDecoder(decoder, tiles, self.room)
        self._vae = FittingDecoder(roomy, tiles, wish, self.room.free)
        needs = needs or (CallRoom(0.0) if on_device else call_room(None, model.manifest))
        usual = usual_call(needs, model.manifest)
        self._denoiser = RoomyDenoiser(denoiser, needs, self.room, usual)
        self._denoiser_loras = LoraSwitch(self.effective_weights, "denoiser", self._denoiser)
        self.served = served if on_device else served.within(self.room.most, needs, model.manifest)
        self.schedule = _schedule(served.limits, options, costs, needs, self.room)

    @property
    def places(self) -> int:
        """The most samples that are held at once, and drawn in turns."""
        return self.schedule.places

    def prepare(self, plan: Plan, extent: int = 1) -> Prepared:
        """Encode a plan's prompts and draw its initial noise. Text is filled up to `extent` at
        least, where the backend wants few shapes.

        The text encoders are used and the denoiser is not: another thread than the loop's may
        prepare pictures, one at a time. Raises RequestError for a size or LoRAs that the engines
        refuse, PackageError for a LoRA that cannot be read or for a package that lacks the graphs
        for LoRAs, and BackendError.
        """
        self.served.check(plan)
        if plan.replaces_weights:
            self.backend.check_loras()
            self._text_backend.check_loras()
        self.effective_weights.open(plan.loras)
        # Computed here and kept, so that the loop's thread finds them.
        self.effective_weights.of(plan.loras, "denoiser")
        return Prepared(plan, self.conditioning(plan, extent))

    def admit(self, picture: Prepared) -> Sample:
        """Hand a picture to the denoiser, on the loop's thread.

        Raises BackendError for a number or length of texts that no engine takes.
        """
        return Sample(picture, self._denoiser, self._noise)

    def start(self, plan: Plan) -> Sample:
        """Prepare a picture and hand it to the denoiser. Raises what both raise."""
        return self.admit(self.prepare(plan))

    def turns(self, arrivals: Arrivals) -> Iterator[tuple[StepEvent, ...]]:
        """The denoising loop over the samples that `arrivals` gives."""
        return denoise(self._denoiser, arrivals, self.schedule, self._denoiser_loras, self.pace)

    def steps(self, plan: Plan) -> Iterator[StepEvent]:
        """The denoising loop over one picture alone."""
        return self._steps(self.start(plan))

    def _steps(self, sample: Sample) -> Iterator[StepEvent]:
        waiting = [sample]

        def arrivals(_free: int) -> Sequence[Sample]:
            return [waiting.pop()] if waiting else []

        return chain.from_iterable(self.turns(arrivals))

    def latents(self, sample: Sample) -> Latents:
        """The sample's latents `[1, C, h, w]`, while its event is current; waits for the device."""
        return self.reading(sample)()

    def reading(self, sample: Sample) -> Reading:
        """`latents` as a Reading: only the call of the Reading waits for the device."""
        return self._denoiser.latents(sample.slot)

    def predicted(self, sample: Sample) -> Latents:
        """The picture that the sample's latest step predicted, as latents `[1, C, h, w]`."""
        return self.reading_predicted(sample)()

    def reading_predicted(self, sample: Sample) -> Reading:
        """`predicted` as a Reading: only the call of the Reading waits for the device."""
        return self._denoiser.predicted(sample.slot)

    def decode(self, latents: Latents) -> Pixels:
        """The pixels of the finished picture, `[H, W, 3]`, from latents `[1, C, h, w]`."""
        return self._vae.decode(latents)

    def tiled(self, request: GenerateRequest) -> str:
        """A sentence on the tiles of pictures of the request's size; empty for whole ones."""
        return self._vae.note(request.width, request.height)

    @property
    def tilings(self) -> list[str]:
        """The sentences on all sizes that were decoded in tiles so far."""
        return self._vae.notes

    def warm_up(self) -> None:
        """Draw one step of each usual kind of picture, so that no request pays for captures,
        allocations and first runs. A picture that cannot be made is skipped with a warning.

        A picture with a LoRA is drawn first on a device, whose CUDA graphs are captured anew once
        weights were replaced. On the CPU LoRAs open networks beside those of the other pictures,
        which need not wait for them: such a picture is prepared, and `warm_up_loras` draws it.
        """
        loras = with_a_lora(self.model, self.served)
        pictures = of_each_size(self.model, self.served)
        on_device = isinstance(self.backend, OnDevice)
        self._warm_up([*loras, *pictures] if on_device else pictures)
        self._encoders.warm_up()
        if self.backend.few_shapes:
            for extent in extents_of(self.model.package.manifest.roles["denoiser"]):
                self._warm_up(pictures[-1:], extent)
        if not on_device:
            self._cold.extend(self._first_prepared(loras))
        self._forget_pictures()

    @property
    def cold(self) -> bool:
        """True while there is something to do for `warm_up_loras`."""
        return bool(self._cold)

    def warm_up_loras(self) -> None:
        """Draw one step with a LoRA where `warm_up` left that for later, between two pictures and
        on the loop's thread. A LoRA that cannot be drawn is skipped with a warning.
        """
        while self._cold:
            for _ in self._first_steps(self._cold.pop()):
                pass
        self._forget_pictures()

    @property
    def keeps_memory(self) -> bool:
        """True while the denoiser keeps memory of calls that `rest` gives back."""
        return self._denoiser.keeps

    def rest(self) -> None:
        """Give back the memory of the denoiser's calls, on the loop's thread and between pictures:
        the next call takes it anew. Raises BackendError.
        """
        self._denoiser.rest()
        give_free_memory_back()

    def close(self) -> None:
        """Give the memory of all engines back, once nothing is drawn with them any more. Raises
        DeviceError.
        """
        self._noise.shutdown()
        self._encoders.close()
        for close in self._closers:
            close()
        give_free_memory_back()

    def _forget_pictures(self) -> None:
        """Nobody asked for the pictures so far."""
        self.schedule.restart()
        self.pace.restart()

    def _warm_up(self, bodies: Iterable[Body], extent: int = 1) -> None:
        """Draw one step of each, the text filled up to `extent` at least."""
        for picture in self._first_prepared(bodies, extent):
            request = picture.plan.request
            for event in self._first_steps(picture):
                self.previewer.jpeg(self.predicted(event.sample), request.width, request.height)
                self.decode(self.latents(event.sample))

    def _first_prepared(self, bodies: Iterable[Body], extent: int = 1) -> Iterator[Prepared]:
        """Those of these pictures that can be prepared, of one step each."""
        for body in bodies:
            request = self.model.read({"prompt": "", "steps": 1, "seed": 0, **body})
            with skipped():
                yield self.prepare(self.model.plan(request), extent)

    def _first_steps(self, picture: Prepared) -> Iterator[StepEvent]:
        """The steps of a picture; none of one that cannot be drawn."""
        steps: Iterator[StepEvent] = iter(())
        with skipped():
            steps = self._steps(self.admit(picture))
            if picture.plan.loras:
                # The set is put on the denoiser by the first step.
                steps = chain([next(steps)], steps)
        return steps

    def conditioning(self, plan: Plan, extent: int = 1) -> list[Conditioning]:
        """The conditioning of each evaluation, with the plan's LoRAs on the text encoders, filled
        up to `extent` at least where the backend wants few shapes."""
        settings = self.model.family.settings(plan.request)
        made: list[Conditioning] = [
            {**each, **settings} for each in self.conditioner.of(plan.prompts, plan.loras)
        ]
        if not self.backend.few_shapes:
            return made
        record = self.model.package.manifest.roles["denoiser"]
        return [filled(conditioning, record, extent) for conditioning in made]

    def _preview_decoder(self) -> Decoder:
        preview = self.model.package.manifest.preview
        if isinstance(preview, MatrixPreview):
            return MatrixDecoder(preview)
        engine = self.backend.open("preview_decoder")
        self._closers.append(engine.close)
        return NetworkDecoder(engine)


def _schedule(
    limits: BatchLimits,
    options: DrawOptions,
    costs: Costs | None,
    needs: CallRoom,
    room: Room,
) -> Schedule:
    samples = min(options.max_batch or limits.samples, limits.samples)
    return Schedule(
        BatchLimits(samples, limits.evaluations),
        costs,
        samples if options.max_batch else None,
        evaluations_that_fit(needs, room),
    )


def _text_backend(model: Model, backend: Backend) -> Backend:
    """The backend of the text encoders: the one of the rest, or that of the CPU beside it."""
    if backend.placing.place != "cpu":
        return backend
    return row_of(CPU).open(Opening(model.package, None, "cpu"))
