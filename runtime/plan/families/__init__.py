"""The families that we serve, one file each: adding one adds a row here."""

from runtime.errors import PackageError
from runtime.plan.families.chroma import Chroma
from runtime.plan.families.family import Family
from runtime.plan.families.flux import Flux
from runtime.plan.families.sdxl import Sdxl
from runtime.plan.families.zimage import ZImage

FAMILIES: tuple[Family, ...] = (Sdxl(), Flux(), Chroma(), ZImage())


def family_named(name: str) -> Family:
    """The family of that name. Raises PackageError."""
    for family in FAMILIES:
        if family.name == name:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise PackageError(f"family {name!r} is not one that this version serves: {known}")
