"""The build stage's view of a family, to read the names in its LoRA files."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Numbering:
    """A way to name the layers of one network, whatever prefix stands before."""

    title: str
    marks: tuple[str, ...]
    """Beginnings that only paths of this numbering have."""
    names: Callable[[Collection[str]], Iterator[tuple[str, str]]]
    """Takes the layers of a network by their names in the package; returns each name of this
    numbering with the layer that the name means."""
    example: str = ""
    """A path of this numbering; empty for a numbering that is known and not read."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginning of the names of one network's layers, before their paths."""

    text: str
    role: str
    written_by: Mapping[str, str]
    """By the title of a numbering, who writes it with this prefix. Other numberings of the network
    are read with the prefix too."""


@dataclass(frozen=True, slots=True)
class FamilyNames:
    """Every spelling of a family's layers: the product of prefixes and numberings."""

    titles: Mapping[str, str]
    """By role, what people call the network."""
    numberings: Mapping[str, tuple[Numbering, ...]]
    """By role."""
    prefixes: tuple[Prefix, ...]
    elsewhere: Mapping[str, str]
    """By prefix, the networks that packages of the family do not have, or that take no LoRA."""
    unclear: Mapping[str, str]
    """By prefix, networks that the prefix alone does not tell apart."""
