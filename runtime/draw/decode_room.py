"""The sizes that a model's VAE decodes whole, and an estimate of the memory that this takes."""

from dataclasses import dataclass
from typing import Literal

from runtime.backends.protocol import SPARE, Backend, OnDevice
from runtime.machine import available_bytes
from runtime.package.manifest import Manifest, RoleRecord
from runtime.package.target import Target
from runtime.plan.served import SizeRange, size_range

ROLE = "vae_decoder"

# Bytes of a pixel for each channel that the last convolution reads; the values behind the last
# doubling, which is twice as wide, are most of them. On the CPU the resident memory of ONNX Runtime
# grew by 42.5 with the demo's VAE at 1024x1024, and by 41.8 with that of SDXL at 512x512. On a GPU
# an SDXL picture of 2048x2048 takes 11.7 GB in fp32 and 6.0 in fp16 (docs/onnxruntime.md).
_BYTES: dict[Literal["cpu", "fp32", "fp16", "bf16"], float] = {
    "cpu": 43.0,
    "fp32": 21.8,
    "fp16": 11.2,
    "bf16": 11.2,
}
# Of each pair of latents, on the CPU alone: scores of the attention in fp32, and their softmax. A
# VAE of 8 channels grew by 2.13 GB at 1024x1024.
_BYTES_OF_PAIR = 8
# The width of AutoencoderKL as it is published, for a network that names its layers otherwise.
_USUAL_CHANNELS = 128


@dataclass(frozen=True, slots=True)
class DecodeRoom:
    """The sizes that a VAE's engine takes, and the memory that it takes for them."""

    scale: int
    """Pixels of a latent, a side."""
    usual: int
    """The longer side of the package's own pictures, in pixels."""
    bytes_per_pixel: float
    bytes_per_pair: int = 0
    """Of two latents each; 0 where attention keeps no scores."""
    sizes: tuple[SizeRange, ...] = ()
    """Empty where the engine takes every size of the model."""

    def wanted(self, width: int, height: int) -> int:
        """The bytes that are wanted beside the weights while a picture of this size is decoded."""
        latents = width * height // self.scale**2
        return int(max(self.bytes_per_pixel * width * height, self.bytes_per_pair * latents**2))

    def takes(self, width: int, height: int) -> bool:
        """True where the engine takes a picture of this size in pixels."""
        return not self.sizes or any(each.takes(width, height) for each in self.sizes)


def decode_room(target: Target | None, manifest: Manifest) -> DecodeRoom:
    """Of a target's VAE; of the package's own graph on the CPU where `target` is None."""
    record, scale = manifest.roles[ROLE], manifest.latents.scale_factor
    usual = max(manifest.defaults.width, manifest.defaults.height)
    channels = _channels(record)
    if target is None:
        attends = any(".attentions." in name for name in record.parameters)
        pair = _BYTES_OF_PAIR if attends else 0
        return DecodeRoom(scale, usual, _BYTES["cpu"] * channels, pair)
    identity = target.record.identity.engines[ROLE]
    precision = target.record.engines[ROLE].precision(identity.precision)
    sizes = tuple(dict.fromkeys(size_range(profile, scale) for profile in identity.profiles))
    return DecodeRoom(scale, usual, _BYTES[precision] * channels, sizes=sizes)


def free_bytes(backend: Backend) -> int | None:
    """The memory that a decoding can have: of the device, with that which is given back where
    memory falls short, or of the machine; None where that is not known. Raises DeviceError.
    """
    if not isinstance(backend, OnDevice):
        return available_bytes()
    memory = backend.device_memory()
    return memory["free"] + memory.get(SPARE, 0)


def _channels(record: RoleRecord) -> int:
    """The channels that the last convolution reads."""
    widths = (
        parameter.shape[1]
        for name, parameter in record.parameters.items()
        if name.endswith("conv_out.weight")
    )
    return next(widths, _USUAL_CHANNELS)
