"""The families that we serve, one file each: adding one adds a row here."""

from runtime.errors import PackageError
from runtime.families.family import Family
from runtime.families.sdxl import Sdxl

FAMILIES: tuple[Family, ...] = (Sdxl(),)


def family_named(name: str) -> Family:
    """The family of that name. Raises PackageError."""
    for family in FAMILIES:
        if family.name == name:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise PackageError(f"family {name!r} is not one that this version serves: {known}")
