"""The demo model with the limits of a larger one: it draws nonsense there, and its networks run."""

import shutil
from dataclasses import replace
from pathlib import Path

from runtime.package.manifest import HEIGHT, WIDTH, RoleRecord, read_manifest, write_manifest
from tests.places import ENGINES

LARGEST = 1024
"""Pixels of a side."""


def demo_of_all_sizes(engines: Path) -> Path:
    """Copy the demo into a folder of engines, which is returned, with LARGEST as its limit."""
    shutil.copytree(ENGINES / "demo", engines / "demo", ignore=shutil.ignore_patterns("targets"))
    widen(engines / "demo")
    return engines


def widen(package: Path) -> None:
    """Give a copy of the demo LARGEST as its limit."""
    manifest, _ = read_manifest(package)
    largest = LARGEST // manifest.latents.scale_factor
    write_manifest(
        package,
        replace(
            manifest,
            limits=replace(manifest.limits, max_size=LARGEST),
            roles={name: _with_sides(role, largest) for name, role in manifest.roles.items()},
        ),
    )


def _with_sides(role: RoleRecord, largest: int) -> RoleRecord:
    axes = {
        name: replace(axis, maximum=largest) if name in {HEIGHT, WIDTH} else axis
        for name, axis in role.axes.items()
    }
    return replace(role, axes=axes)
