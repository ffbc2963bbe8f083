"""The memory that models take together on one device, told before any of them is loaded.

Weights are added up; of runs only the largest counts, since the models' calls take turns.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from runtime.backends.catalog import Choice
from runtime.backends.room import target_needs
from runtime.draw.decode_room import decode_room
from runtime.draw.roomy import usual_call
from runtime.package.manifest import Manifest
from runtime.plan.call_room import call_room

FLOAT_BYTES = 4
"""Of each weight on the CPU, where every graph computes in fp32."""


@dataclass(frozen=True, slots=True)
class ModelNeeds:
    """The bytes that a model takes."""

    weights: int
    runs: int
    """Of the calls for its usual pictures; estimated."""


def model_needs(choice: Choice, manifest: Manifest) -> ModelNeeds:
    """The bytes that a model takes of the device that it was chosen for."""
    if choice.target is not None and choice.gpu is not None:
        needs = target_needs(choice.target, manifest)
        return ModelNeeds(needs.weights_at("keep"), needs.runs)
    weights = sum(
        FLOAT_BYTES * prod(parameter.shape)
        for role in manifest.roles.values()
        for parameter in role.parameters.values()
    )
    decoding = decode_room(None, manifest).wanted(manifest.defaults.width, manifest.defaults.height)
    step = usual_call(call_room(None, manifest), manifest)
    return ModelNeeds(weights, max(decoding, step))


@dataclass(frozen=True, slots=True)
class ShelfRoom:
    """The memory for models, and what each of them takes."""

    memory: int | None
    """Bytes for weights and runs together; None where nothing is known, and everything fits."""
    needs: Mapping[str, ModelNeeds]

    def fits(self, names: Collection[str]) -> bool:
        """True where these models fit together. One alone always does: it is tried."""
        if self.memory is None or len(names) < 2:
            return True
        taken = [self.needs[name] for name in names]
        weights = sum(each.weights for each in taken)
        return weights + max(each.runs for each in taken) <= self.memory

    def given_up(
        self, wanted: str, loaded: Sequence[str], in_use: Collection[str]
    ) -> Sequence[str] | None:
        """The models that have to go before another fits: of `loaded`, the least recently used
        first, those that are not in use. None while it would not fit for all that.
        """
        staying, going = list(loaded), list[str]()
        for name in [each for each in loaded if each not in in_use]:
            if self.fits([*staying, wanted]):
                break
            staying.remove(name)
            going.append(name)
        return going if self.fits([*staying, wanted]) else None
