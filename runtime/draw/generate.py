"""The one place that puts the runtime together: plans in, step events and pictures out."""

import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.protocol import Backend, Reading
from runtime.draw.batch import BatchLimits
from runtime.draw.conditioning import CONDITIONING_BYTES, Conditioner
from runtime.draw.decode import Decoder, MatrixDecoder, NetworkDecoder, Pixels
from runtime.draw.denoise import Arrivals, Sample, StepEvent, denoise
from runtime.draw.lora.switch import LoraSwitch
from runtime.draw.lora.weights import LORA_BYTES, EffectiveWeights
from runtime.draw.preview import Previewer
from runtime.errors import BackendError, DeviceError, PackageError
from runtime.package.manifest import MatrixPreview
from runtime.plan.families.family import Conditioning, Guidance
from runtime.plan.model import Model
from runtime.plan.plan import Plan
from runtime.plan.served import Served, served_by

Latents = NDArray[np.float32]

logger = logging.getLogger(__name__)


class Generator:
    """A model with its engines open on one device."""

    def __init__(
        self,
        model: Model,
        backend: Backend,
        max_batch: int | None = None,
        *,
        lora_bytes: int = LORA_BYTES,
        conditioning_bytes: int = CONDITIONING_BYTES,
        served: Served | None = None,
    ) -> None:
        """Open every engine. `max_batch` None: as many samples a call as the engines take.

        `lora_bytes` is the memory in which weights of recent LoRA sets are kept, and
        `conditioning_bytes` that for the conditionings of recent prompts. `served` None: all that
        the graphs take.
        """
        self._served = served or served_by(None, model.package.manifest)
        limits = self._served.limits
        self.model = model
        self.backend = backend
        self._limits = BatchLimits(
            min(max_batch or limits.samples, limits.samples), limits.evaluations
        )
        self._denoiser = backend.open_denoiser()
        self.effective_weights = EffectiveWeights(
            model.package, lora_bytes, factored=backend.multiplies_updates
        )
        self._denoiser_loras = LoraSwitch(self.effective_weights, "denoiser", self._denoiser)
        self.conditioner = Conditioner(
            model.family,
            {role: backend.open(role) for role in model.family.text_roles},
            self.effective_weights,
            conditioning_bytes,
        )
        self._vae = NetworkDecoder(backend.open("vae_decoder"))
        self.previewer = Previewer(self._preview_decoder())

    @property
    def places(self) -> int:
        """How many samples it makes at once."""
        return self._limits.samples

    def start(self, plan: Plan) -> Sample:
        """Encode a plan's prompts, draw its noise, and hand it to the denoiser.

        Raises RequestError for a size or LoRAs that the engines refuse, PackageError where a LoRA
        or what it takes to draw with LoRAs cannot be read, and BackendError for a number or length
        of texts that no engine takes.
        """
        self._served.check(plan)
        if plan.loras:
            self.backend.check_loras()
        self.effective_weights.open(plan.loras)
        return Sample(plan, self._denoiser, self.conditioning(plan))

    def turns(self, arrivals: Arrivals) -> Iterator[tuple[StepEvent, ...]]:
        """The denoising loop over whatever `arrivals` lets in."""
        return denoise(self._denoiser, arrivals, self._limits, self._denoiser_loras)

    def steps(self, plan: Plan) -> Iterator[StepEvent]:
        """The loop for one picture alone."""
        waiting = [self.start(plan)]

        def arrivals(_free: int) -> Sequence[Sample]:
            return [waiting.pop()] if waiting else []

        return chain.from_iterable(self.turns(arrivals))

    def latents(self, sample: Sample) -> Latents:
        """The sample's latents `[1, C, h, w]`, while its event is current."""
        return self.reading(sample)()

    def reading(self, sample: Sample) -> Reading:
        """The same, without waiting for the device."""
        return self._denoiser.latents(sample.slot)

    def predicted(self, sample: Sample) -> Latents:
        """The latents of the picture that its last step predicted, `[1, C, h, w]`."""
        return self.reading_predicted(sample)()

    def reading_predicted(self, sample: Sample) -> Reading:
        """The same, without waiting for the device."""
        return self._denoiser.predicted(sample.slot)

    def decode(self, latents: Latents) -> Pixels:
        """The finished picture, `[H, W, 3]`."""
        return self._vae.decode(latents)

    def warm_up(self) -> None:
        """One step of each picture that requests shall find all in place for. One that cannot
        be made is passed over, and the log says so.
        """
        for body in self._first_pictures():
            request = self.model.read({"prompt": "", "steps": 1, "seed": 0, **body})
            try:
                steps = self.steps(self.model.plan(request))
            except DeviceError:
                raise
            # A size that no engine takes, or a damaged LoRA: whoever asks for it is told.
            except (BackendError, PackageError) as error:
                logger.warning("not warmed up: %s", error)
                continue
            for event in steps:
                size = (request.width, request.height)
                self.previewer.jpeg(self.predicted(event.sample), *size)
                self.decode(self.latents(event.sample))

    def _first_pictures(self) -> Iterator[dict[str, Any]]:
        """One with a LoRA, then one of each size that engines were tuned for, and where guidance
        takes another evaluation, one without it and one with it.

        The most usual size comes last, since what was used longest ago is the first to go; the LoRA
        first, since graphs are captured anew once weights were replaced.
        """
        tuned = self._served.tuned
        sizes: list[dict[str, Any]] = [
            {"width": width, "height": height} for width, height in tuned
        ] or [{}]
        offers = [] if self._served.fixed_weights else self.model.loras[:1]
        for offer in offers:
            yield {"loras": [{"id": offer.id, "weight": 1}], **sizes[0]}
        guidance = self.model.family.facts(self.model.package.manifest).guidance
        both = guidance is Guidance.CLASSIFIER_FREE and tuned
        for size in reversed(sizes):
            yield from ({**size, "cfg_scale": scale} for scale in (1, 2)) if both else (size,)

    def conditioning(self, plan: Plan) -> list[Conditioning]:
        """Each evaluation's conditioning, its prompt encoded with the plan's LoRAs."""
        settings = self.model.family.settings(plan.request)
        return [{**self.conditioner.of(prompt, plan.loras), **settings} for prompt in plan.prompts]

    def _preview_decoder(self) -> Decoder:
        preview = self.model.package.manifest.preview
        if isinstance(preview, MatrixPreview):
            return MatrixDecoder(preview)
        return NetworkDecoder(self.backend.open("preview_decoder"))
