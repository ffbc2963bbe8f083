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
    loop_steps: int
    """Steps of the pictures in the closed loop."""
    loras: bool
    dtype: str
    """Name of the dtype that diffusers runs in."""
    guidance: float
    """diffusers' `guidance_scale`."""
    denoiser: str = "transformer"
    """Name of the denoiser in diffusers' pipeline."""
    sampler: str | None = None
    """None for the model's own."""
    size: int = 1024
    """Of a side, in pixels."""
    pictures: int = 10
    """Number of pictures in a series: the first is held to the tenth."""
    loop: int = 24
    """Number of pictures in the closed loop."""
    lora_changes: int = 5
    """Number of changes between each two sets of LoRAs."""
    patience: float = 120.0
    """Seconds that a server may take to be ready."""

    def rehearsed(self) -> Self:
        """The family with a few small pictures of few steps, for a machine with no GPU."""
        return replace(self, size=64, steps=4, loop_steps=3, loop=8, lora_changes=2)


# Measured by the clock of a client over HTTP, but for those of LoRAs.
_SDXL_AIMS = (
    Aim("picture with previews, s", 1.0),
    Aim("previews, share", 0.03),
    Aim("first to tenth, share", 0.10),
    Aim("LoRA change, ms", 150.0),
    Aim("LoRA step, share", 0.03),
    Aim("loop, pictures a second", 2.4, at_least=True),
)

FAMILIES: Mapping[str, Family] = {
    "sdxl": Family(
        model="sdxl",
        steps=30,
        aims=_SDXL_AIMS,
        loop_steps=20,
        loras=True,
        dtype="float16",
        guidance=7.0,
        denoiser="unet",
        sampler="euler_a",
    ),
}
