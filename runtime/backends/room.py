"""The room that a model's engines take on a GPU, told before any of them is opened, and the place
of the text encoders that follows from the room.

Weights are known to the byte. The rest is an estimate, which refuses nothing: `auto` goes by the
estimate, and for a place that was asked for by name the estimate is a warning.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from runtime.backends.engine_files import device_bytes
from runtime.backends.placing import COSTS, Placing, TextPlace, TextWish, is_text
from runtime.backends.rows import CPU
from runtime.errors import BackendError
from runtime.machine import available_bytes
from runtime.package.manifest import Manifest
from runtime.package.target import Target, tuned_sizes

# All engines of SDXL of published size took 8.7 GB on an H200 at 1024x1024, of which 6.97 GB were
# weights. The pixels decide most of the rest: the activations of a VAE in fp32.
RUN_BYTES_PER_PIXEL = 1_650
# An assumption: CUDA's context, and the kernels of its libraries.
LIBRARIES_BYTES = 500_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Needs:
    """The bytes that a model takes of a GPU."""

    weights: Mapping[str, int]
    """By role; known."""
    runs: int
    """Beside the weights; estimated."""

    @property
    def text(self) -> int:
        """The weights of the text encoders."""
        return sum(size for role, size in self.weights.items() if is_text(role))

    def weights_at(self, place: TextPlace) -> int:
        """The most bytes of weights that are on the GPU at once, with text encoders at a place."""
        # Put aside, they take the same room at each new prompt: everything else stays meanwhile.
        return sum(self.weights.values()) - (self.text if place == "cpu" else 0)

    def total(self, place: TextPlace) -> int:
        """The weights, and the estimate of runs."""
        return self.weights_at(place) + self.runs

    def beside_weights(self, place: TextPlace) -> int:
        """The bytes that may be wanted beside the weights that stay open, by the estimate."""
        return self.runs + (self.text if place == "aside" else 0)

    def words(self) -> str:
        """Weights by role and the estimate, for people."""
        parts = ", ".join(f"{role} {_gb(size)}" for role, size in sorted(self.weights.items()))
        return (
            f"the engines take some {_gb(sum(self.weights.values()))} GB ({parts}), and their runs "
            f"{_gb(self.runs)} more by an estimate"
        )


@dataclass(frozen=True, slots=True)
class HostRoom:
    """The machine's own memory, in bytes."""

    wanted: int
    """By the text encoders, were they on the CPU."""
    available: int | None
    """As Linux estimates it; None where that is not known."""

    @property
    def fits(self) -> bool:
        """False where the text encoders are known not to fit."""
        return self.available is None or self.wanted <= self.available

    def words(self) -> str:
        """Both numbers, for people."""
        there = "unknown" if self.available is None else f"{_gb(self.available)} GB"
        return f"{_gb(self.wanted)} GB of the machine's memory, available: {there}"


def run_bytes(pixels: int) -> int:
    """An estimate of the memory of runs beside the weights, for pictures of so many pixels."""
    return LIBRARIES_BYTES + RUN_BYTES_PER_PIXEL * pixels


def target_needs(target: Target, manifest: Manifest) -> Needs:
    """The bytes that a target's engines take of the GPU."""
    sizes = tuned_sizes(target.record.identity, manifest)
    largest = max((width * height for width, height in sizes), default=0)
    return Needs(device_bytes(target, manifest), run_bytes(largest))


def host_room(manifest: Manifest) -> HostRoom:
    """The machine's memory for the text encoders, whose weights take 4 bytes each on the CPU."""
    wanted = sum(
        4 * prod(parameter.shape)
        for role, record in manifest.roles.items()
        if is_text(role)
        for parameter in record.parameters.values()
    )
    return HostRoom(wanted, available_bytes())


def placed(wish: TextWish, needs: Needs, memory: tuple[int, int], host: HostRoom) -> Placing:
    """The place of the text encoders on a GPU with `memory`: bytes that are free, and all bytes.

    Logs what was found. Raises BackendError where the weights do not fit, with the remedy.
    """
    free, total = memory
    place = _best(needs, free, host) if wish == "auto" else wish
    found = f"{needs.words()}; {_gb(free)} of {_gb(total)} GB of the GPU are free"
    if needs.weights_at(place) > free:
        raise BackendError(f"{found}; {_remedy(place, needs, free, host)}")
    if place == "cpu" and not host.fits:
        raise BackendError(f"{found}; --text-encoders cpu takes {host.words()}")
    note = f"{found}; {COSTS[place]} ({'chosen by auto' if wish == 'auto' else 'as asked for'})"
    if place == "cpu":
        note += f", and take {host.words()}"
    if needs.total(place) > free:
        short = _gb(needs.total(place) - free)
        note += f"; runs may lack {short} GB, so serve fewer pictures at once, or smaller ones"
    logger.info("%s", note)
    return Placing(place, note)


def _best(needs: Needs, free: int, host: HostRoom) -> TextPlace:
    """On the GPU where everything fits, by the estimate too."""
    helps = needs.text > 0 and host.fits
    return "cpu" if helps and needs.total("keep") > free else "keep"


def _remedy(place: TextPlace, needs: Needs, free: int, host: HostRoom) -> str:
    others = f"end other programs that use it, or draw with --backend {CPU}"
    if place != "cpu" and needs.text and needs.weights_at("cpu") <= free:
        return (
            f"with --text-encoders cpu some {_gb(needs.total('cpu'))} GB are enough: "
            f"{COSTS['cpu']}, and take {host.words()}; or {others}"
        )
    return f"compile a target of a narrower --precision, {others}"


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f}"
