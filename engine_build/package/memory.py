"""The memory that a package takes of a GPU, and of cards of the usual sizes, as `inspect` tells."""

from collections.abc import Iterator

from engine_build.columns import columns
from runtime.backends.placing import COSTS, TextPlace
from runtime.backends.room import Needs, host_room, run_bytes
from runtime.package.manifest import Manifest

CARDS = (16, 24, 40, 48, 80)
"""Sizes of cards in GiB, as they are sold."""

# What CUDA gives of a card: 24,564 of 24,576 MiB on an RTX 4090, 40,536 of 40,960 on an A100.
_GIVEN = 0.98 * 2**30


def package_needs(manifest: Manifest) -> Needs:
    """The bytes of the weights as they are stored, and of runs at the usual size by an estimate."""
    weights = {role: record.weights_bytes for role, record in manifest.roles.items()}
    return Needs(weights, run_bytes(manifest.defaults.width * manifest.defaults.height))


def memory_text(manifest: Manifest) -> str:
    """Lines for people: the needs, and the place of the text encoders on each card."""
    needs = package_needs(manifest)
    size = f"{manifest.defaults.width}x{manifest.defaults.height}"
    return "\n".join(
        [
            f"on a GPU, with weights as they are stored, at {size}: {needs.words()}",
            *columns([("CARD", "--text-encoders auto"), *_cards(needs)]),
            f"cpu: {COSTS['cpu']}, and take {host_room(manifest).words()}",
        ]
    )


def _cards(needs: Needs) -> Iterator[tuple[str, str]]:
    for card in CARDS:
        places: tuple[TextPlace, ...] = ("keep", "cpu")
        fitting = [place for place in places if needs.total(place) <= card * _GIVEN]
        short = (needs.total("cpu") - card * _GIVEN) / 1e9
        taken = f"{fitting[0]}: {needs.total(fitting[0]) / 1e9:.2f} GB" if fitting else ""
        yield f"{card} GB", taken or f"does not fit: {short:.2f} GB are missing"
