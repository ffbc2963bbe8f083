"""The families that we serve, one file each: adding one adds a row here."""

from runtime.errors import PackageError
from runtime.families.chroma import Chroma
from runtime.families.family import Family
from runtime.families.flux import Flux
from runtime.families.sdxl import Sdxl
from runtime.families.zimage import ZImage

FAMILIES: tuple[Family, ...] = (Sdxl(), Flux(), Chroma(), ZImage())


def family_named(name: str) -> Family:
    """The family of that name. Raises PackageError."""
    for family in FAMILIES:
        if family.name == name:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise PackageError(f"family {name!r} is not one that this version serves: {known}")
