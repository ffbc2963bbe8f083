"""The names that LoRA files have for the layers of a model.

Each family has a table of its own here, and a row in `_FAMILIES`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from engine_build.checkpoint.printable import printable
from engine_build.lora import sdxl
from engine_build.lora.family import FamilyNames, Numbering, Prefix
from runtime.errors import SourceError
from runtime.package.manifest import Manifest

Place: TypeAlias = tuple[str, str]
"""A role and one of its parameters."""

_FAMILIES: Mapping[str, FamilyNames] = {sdxl.FAMILY: sdxl.NAMES}

_UNKNOWN = "a network that is not known"
_NEW_PREFIX = "a prefix that is not known"

# In the canonical form: PEFT's wrapper, torch.compile's, and the processors of old diffusers.
_WRAPPERS = (("base_model_model_", ""), ("_orig_mod_", ""), ("_processor_", "_"))

_NAMED = 3


@dataclass(frozen=True, slots=True)
class LeftOver:
    """Layers of a file that have no place in the package, all for one reason."""

    part: str
    """The network that the names speak of, as people call it; or a name that is not known."""
    reason: str
    modules: tuple[str, ...]
    whole: bool
    """True where not one layer of this network has a place: then nothing of what the file's author
    taught the network would be drawn."""

    def __str__(self) -> str:
        some = ", ".join(map(printable, self.modules[:_NAMED]))
        return f"{len(self.modules)} layers of {self.part}: {self.reason} ({some}{self._more})"

    @property
    def _more(self) -> str:
        return ", ..." if len(self.modules) > _NAMED else ""


@dataclass(frozen=True, slots=True)
class NameRow:
    """One way to name a network's layers, for people."""

    family: str
    network: str
    prefix: str
    numbering: str
    written_by: str
    example: str


class Naming:
    """Finds the parameter that a layer of a LoRA file lies on."""

    def __init__(self, manifest: Manifest) -> None:
        """Raises SourceError where LoRAs of the package's family are not served."""
        self._family = _family(manifest)
        self._package = manifest.name
        self._prefixes = _longest_first(self._family.prefixes)
        self._places = {
            role: {
                canonical(name): (role, f"{module}.weight")
                for numbering in numberings
                for name, module in numbering.names(_modules(manifest, role))
            }
            for role, numberings in self._family.numberings.items()
        }

    def place(self, module: str) -> Place | None:
        """The weight of a layer in this package, None where the package has no such layer.

        A normalisation has its place too, though packages may not be able to change it.
        """
        name = canonical(module)
        for beginning, prefix in self._prefixes:
            if name.startswith(beginning):
                found = self._places[prefix.role].get(name.removeprefix(beginning))
                if found is not None:
                    return found
        return None

    def left_over(self, modules: Iterable[str]) -> tuple[LeftOver, ...]:
        """The layers without a place, of all the layers of a file, by network and by reason."""
        placed, grouped = set[str](), defaultdict[tuple[str, str], list[str]](list)
        for module in modules:
            place = self.place(module)
            if place is None:
                grouped[self._why(module)].append(module)
            else:
                placed.add(self._family.titles[place[0]])
        return tuple(
            LeftOver(part, reason, tuple(sorted(found)), part not in placed | {_UNKNOWN})
            for (part, reason), found in sorted(grouped.items())
        )

    def _why(self, module: str) -> tuple[str, str]:
        """The network that a name speaks of, and the reason why the package has no such layer."""
        name, family = canonical(module), self._family
        for table, reason in (
            (family.elsewhere, f"{self._package} has no such network, or none that takes a LoRA"),
            (family.unclear, "the names do not say which"),
        ):
            for text, title in table.items():
                if name.startswith(canonical(text)):
                    return title, reason
        for beginning, prefix in self._prefixes:
            numbering = self._numbering(name.removeprefix(beginning), prefix.role)
            if name.startswith(beginning) and (beginning or numbering):
                return family.titles[prefix.role], self._reason(numbering)
        return self._unknown_prefix(name)

    def _numbering(self, path: str, role: str) -> Numbering | None:
        for numbering in self._family.numberings[role]:
            if path.startswith(tuple(canonical(mark) for mark in numbering.marks)):
                return numbering
        return None

    def _reason(self, numbering: Numbering | None) -> str:
        if numbering is None:
            return "names of a numbering that is not known"
        if not numbering.example:
            return f"names of {numbering.title}'s numbering, which is not read"
        return f"{self._package} has no such layer in {numbering.title}'s numbering"

    def _unknown_prefix(self, name: str) -> tuple[str, str]:
        for role, numberings in self._family.numberings.items():
            for mark in (canonical(mark) for each in numberings for mark in each.marks):
                before, found, _ = name.partition(mark)
                if found and before.endswith("_"):
                    return f"{self._family.titles[role]} after {printable(before)!r}", _NEW_PREFIX
        return _UNKNOWN, "neither prefix nor numbering is known"


def refuse_whole_networks(path: Path, left_over: Iterable[LeftOver]) -> None:
    """Raise SourceError where a network that the file changes would be left out as a whole."""
    whole = [each for each in left_over if each.whole]
    if whole:
        raise SourceError(
            f"{path}: a network that it changes would be left out as a whole, and the LoRA would "
            f"be another: {'; '.join(map(str, whole))}"
        )


def name_rows() -> Iterator[NameRow]:
    """Every published way to name layers, for each family that takes LoRAs."""
    for family, names in _FAMILIES.items():
        for prefix in names.prefixes:
            for numbering in names.numberings[prefix.role]:
                if numbering.title in prefix.written_by:
                    flat = prefix.text.endswith("_")
                    path = numbering.example.replace(".", "_") if flat else numbering.example
                    yield NameRow(
                        family=family,
                        network=names.titles[prefix.role],
                        prefix=prefix.text,
                        numbering=numbering.title,
                        written_by=prefix.written_by[numbering.title],
                        example=prefix.text + path,
                    )


def canonical(module: str) -> str:
    """The form in which names of layers are compared: equal for all spellings of one path.

    PEFT wraps a network as `base_model.model.` and torch.compile as `_orig_mod.`, kohya's scripts
    and LyCORIS write underscores for dots, and diffusers once put `processor` in between. The
    prefix of the network and the numbering of its blocks are part of the path: `Naming` knows what
    they mean.
    """
    name = module.replace(".", "_")
    for wrapper, inside in _WRAPPERS:
        name = name.replace(wrapper, inside)
    return name


def _family(manifest: Manifest) -> FamilyNames:
    family = _FAMILIES.get(manifest.family)
    if family is None:
        raise SourceError(
            f"{manifest.name} is of the family {manifest.family}, which takes no LoRAs here; "
            f"those that do: {', '.join(_FAMILIES)}"
        )
    return family


def _longest_first(prefixes: Iterable[Prefix]) -> tuple[tuple[str, Prefix], ...]:
    rows = ((canonical(prefix.text), prefix) for prefix in prefixes)
    return tuple(sorted(rows, key=lambda row: -len(row[0])))


def _modules(manifest: Manifest, role: str) -> Collection[str]:
    """The layers of a network that have a weight."""
    parameters = manifest.roles[role].parameters
    return [name.removesuffix(".weight") for name in parameters if name.endswith(".weight")]
