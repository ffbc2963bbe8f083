"""Fetches the emoji pictures and their keywords from npm, by exact version and checksum."""

import argparse
import hashlib
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from examples.demo_model.paths import WORK


@dataclass(frozen=True)
class Package:
    """An npm package, the tarball it comes in, and the folder it is unpacked to."""

    name: str
    tarball: str
    sha256: str
    folder: str


PACKAGES = (
    Package(
        name="@lobehub/fluent-emoji-3d@1.1.0",
        tarball="lobehub-fluent-emoji-3d-1.1.0.tgz",
        sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        folder="emoji",
    ),
    Package(
        name="emojilib@4.0.3",
        tarball="emojilib-4.0.3.tgz",
        sha256="7f9a6b43cff31d18985b7d65d11faba5bd971cbcc60020cf6d09322fbaaaf303",
        folder="words",
    ),
)


def fetch(package: Package, downloads: Path) -> None:
    """Downloads the tarball unless it is there, checks it, and unpacks it."""
    tarball = downloads / package.tarball
    if not tarball.exists():
        downloads.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", package.name], cwd=downloads, check=True)
    found = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if found != package.sha256:
        raise SystemExit(
            f"{tarball}: SHA-256 is {found}, expected {package.sha256}; delete it and try again"
        )
    target = downloads.parent / package.folder
    if not target.exists():
        with tarfile.open(tarball) as archive:
            archive.extractall(target, filter="data")
    print(f"{package.name}: {target}")


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for package in PACKAGES:
        fetch(package, WORK / "npm")


if __name__ == "__main__":
    main()
