"""The names that LoRA files have for the layers of a model.

Each family has a file of its own here, and a row in `_NAMINGS`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from engine_build.lora import sdxl
from runtime.errors import SourceError
from runtime.package.manifest import Manifest

Place: TypeAlias = tuple[str, str]
"""A role and one of its parameters."""

_NAMINGS: Mapping[str, Callable[[Manifest], Iterator[tuple[str, Place]]]] = {
    sdxl.FAMILY: sdxl.spellings,
}


class Naming:
    """Finds the parameter that a layer of a LoRA file lies on."""

    def __init__(self, manifest: Manifest) -> None:
        """Raises SourceError where LoRAs of the package's family are not served."""
        spellings = _NAMINGS.get(manifest.family)
        if spellings is None:
            known = ", ".join(_NAMINGS)
            raise SourceError(
                f"{manifest.name} is of the family {manifest.family}, which takes no LoRAs here; "
                f"those that do: {known}"
            )
        self._places = {canonical(name): place for name, place in spellings(manifest)}

    def place(self, module: str) -> Place | None:
        """The place of a layer in this package, None where the package has no such layer."""
        return self._places.get(canonical(module))


def canonical(module: str) -> str:
    """The form in which names of layers are compared: equal for all spellings of one path.

    PEFT wraps a network as `base_model.model.`, kohya's scripts and LyCORIS write underscores for
    dots, and diffusers once put `processor` in between. The prefix of the network and the numbering
    of its blocks are part of the path: `Naming` knows what they mean.
    """
    path = module.removeprefix("base_model.model.")
    return path.replace(".processor.", ".").replace(".", "_")
