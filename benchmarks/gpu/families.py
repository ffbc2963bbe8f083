"""Facts and aims of each family that is measured on a GPU, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class Aim:
    """Limit of one figure of `benchmarks.gpu.figures`."""

    figure: str
    limit: float
    at_least: bool = False
    """True where the figure is to be over the limit, False where it is to be under the limit."""

    def met(self, value: float) -> bool:
        """True where the value is on the right side of the limit, and not just on the limit."""
        return value > self.limit if self.at_least else value < self.limit


@dataclass(frozen=True, slots=True)
class Family:
    """A family's pictures and aims."""

    model: str
    """Name in `benchmarks.real_size`, which is the package's too."""
    steps: int
    aims: tuple[Aim, ...]
    weights_gb: float
    """Size of all weights, which are made on the machine."""
    picture_s: float
    """Seconds that a picture is expected to take: an aim or a prediction."""
    guidance: float
    """diffusers' `guidance_scale`."""
    loras: bool = False
    """True where LoRAs are measured. The package of another model leaves its weights in the
    checkpoint, which takes half the room."""
    dtype: str = "bfloat16"
    """Name of the dtype that diffusers runs in."""
    denoiser: str = "transformer"
    """Name of the denoiser in diffusers' pipeline."""
    negative: bool = False
    """True where diffusers is given a negative prompt too."""
    tokens: int | None = None
    """diffusers' `max_sequence_length`; None where its pipeline has none."""
    sampler: str | None = None
    """None for the model's own."""
    size: int = 1024
    """Of a side, in pixels."""
    pictures: int = 10
    """Number of pictures in a series: the first is held to the tenth."""
    loop: int = 0
    """Number of pictures in the closed loop."""
    loop_steps: int = 20
    """Steps of the pictures in the closed loop."""
    lora_changes: int = 5
    """Number of changes between each two sets of LoRAs."""
    patience: float = 120.0
    """Seconds that a server may take to be ready."""

    def rehearsed(self) -> Self:
        """The family with a few small pictures of few steps, for a machine with no GPU."""
        loop = min(self.loop, 8)
        return replace(self, size=64, steps=4, loop_steps=3, loop=loop, lora_changes=2)


# Measured by the clock of a client over HTTP, but for those of LoRAs.
_SDXL_AIMS = (
    Aim("picture with previews, s", 1.0),
    Aim("previews, share", 0.03),
    Aim("first to tenth, share", 0.10),
    Aim("LoRA change, ms", 150.0),
    Aim("LoRA step, share", 0.03),
    Aim("loop, pictures a second", 2.4, at_least=True),
)

_FAMILIES = (
    Family(
        model="sdxl",
        steps=30,
        aims=_SDXL_AIMS,
        weights_gb=6.9,
        picture_s=1.0,
        guidance=7.0,
        loras=True,
        dtype="float16",
        denoiser="unet",
        negative=True,
        sampler="euler_a",
        loop=24,
    ),
    Family(
        model="flux-dev",
        steps=28,
        aims=(Aim("picture with previews, s", 3.7), Aim("ready, s", 15.0)),
        weights_gb=34.0,
        picture_s=3.7,
        guidance=3.5,
        tokens=512,
        pictures=4,
        patience=180.0,
    ),
    Family(
        model="flux-schnell",
        steps=4,
        aims=(Aim("picture with previews, s", 0.65),),
        weights_gb=34.0,
        picture_s=0.65,
        guidance=0.0,
        tokens=256,
        patience=180.0,
    ),
    Family(
        model="zimage",
        steps=8,
        aims=(Aim("picture with previews, s", 0.82), Aim("in process: text, ms", 130.0)),
        weights_gb=20.5,
        picture_s=0.82,
        guidance=0.0,
        tokens=512,
    ),
    # The first published figure of its kind: there is nothing to be held to.
    Family(
        model="chroma",
        steps=28,
        aims=(),
        weights_gb=27.8,
        picture_s=7.4,
        guidance=4.0,
        negative=True,
        tokens=512,
        pictures=3,
        patience=180.0,
    ),
)

FAMILIES: Mapping[str, Family] = {family.model: family for family in _FAMILIES}
"""By the model's name."""
