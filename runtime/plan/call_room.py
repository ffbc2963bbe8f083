"""An estimate of the memory that one call of the denoiser takes beside the weights, by its shapes.

Attention without a kernel of its own keeps the scores of every pair of tokens, for each head: at
large sizes they are nearly all of the memory.
"""

from dataclasses import dataclass

from runtime.package.manifest import Manifest, RoleRecord
from runtime.package.target import Target

# Of a latent, for each channel of the first convolution: on the CPU the resident memory of ONNX
# Runtime grew by 61 MB with one evaluation of the demo's denoiser at 512x512, of which 10 MB were
# not for scores.
_BYTES_PER_CHANNEL = 80
# Scores in fp32, their softmax, and a third array that ONNX Runtime's arena holds meanwhile: two
# evaluations at 1024x1024 grew by 1659 MB, four heads of 4096 tokens.
_BYTES_PER_PAIR = 12
_LATENTS_PER_TOKEN = 4
"""Of the largest attention: every family's is at half of the latents' height and width."""
_USUAL_HEAD = 64
"""The width of a head, for packages whose manifest does not have the number of heads."""
_USUAL_WIDTH = 320


@dataclass(frozen=True, slots=True)
class CallRoom:
    """The memory that a call takes, by its latents and evaluations."""

    bytes_per_latent: float
    """Of one evaluation."""
    bytes_per_pair: float = 0.0
    """Of two tokens of one evaluation, all heads together; 0 where attention keeps no scores."""
    text: int = 0
    """Tokens of text beside those of the picture."""

    def wanted(self, height: int, width: int, evaluations: int) -> int:
        """The bytes of a call of so many evaluations, for latents of this height and width."""
        latents = height * width
        pairs = (latents / _LATENTS_PER_TOKEN + self.text) ** 2
        return int(evaluations * (self.bytes_per_latent * latents + self.bytes_per_pair * pairs))


def call_room(target: Target | None, manifest: Manifest) -> CallRoom:
    """Of a target's denoiser; of the package's own graph on the CPU where `target` is None."""
    record = manifest.roles["denoiser"]
    latent = _BYTES_PER_CHANNEL * _width(record)
    if target is None:
        return CallRoom(latent, _BYTES_PER_PAIR * _heads(record), _text(record))
    identity = target.record.identity.engines["denoiser"]
    precision = target.record.engines["denoiser"].precision(identity.precision)
    return CallRoom(latent if precision == "fp32" else latent / 2)


def _width(record: RoleRecord) -> int:
    """The channels at the latents' own height and width."""
    first = record.parameters.get("conv_in.weight")
    return first.shape[0] if first else _attended(record) // _LATENTS_PER_TOKEN or _USUAL_WIDTH


def _heads(record: RoleRecord) -> int:
    """The heads of the largest attention."""
    return record.heads or max(1, _attended(record) // _USUAL_HEAD)


def _attended(record: RoleRecord) -> int:
    """The least width of an attention: of a UNet, that of the most tokens; 0 for none."""
    widths = (
        parameter.shape[0]
        for name, parameter in record.parameters.items()
        if name.endswith("to_q.weight")
    )
    return min(widths, default=0)


def _text(record: RoleRecord) -> int:
    """The usual number of the text's tokens."""
    return max((axis.usual or 0 for axis in record.axes.values()), default=0)
