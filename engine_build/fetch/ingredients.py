"""Fetches the ingredients of a package: the source, its base and the preview decoder."""

from dataclasses import dataclass, replace
from pathlib import Path

from engine_build.checkpoint.single_file.open import networks_in_file
from engine_build.fetch.located import Fetching
from engine_build.fetch.references import CivitaiReference, Reference, UrlReference, parse
from engine_build.fetch.resolve import resolve
from runtime.errors import SourceError
from runtime.package.manifest import Source


@dataclass(frozen=True, slots=True)
class Order:
    """The ingredients as a person or a preset refers to them."""

    source: str
    base: str | None = None
    usual_base: str | None = None
    """The base of a source that turns out to be a single file, where no base was named."""
    preview_decoder: str | None = None


@dataclass(frozen=True, slots=True)
class Ingredients:
    """The ingredients as paths of this machine."""

    source: Path
    base: Path | None
    preview_decoder: Path | None
    origin: Source


def fetch_ingredients(order: Order, fetching: Fetching) -> Ingredients:
    """Fetch the ingredients that are not here yet. Raises SourceError and BuildError.

    All references are read before anything is fetched, and a base is fetched without the weights
    that the single file holds itself.
    """
    source = parse(order.source)
    base = None if order.base is None else parse(order.base)
    usual_base = None if order.usual_base is None else parse(order.usual_base)
    preview = None if order.preview_decoder is None else parse(order.preview_decoder)
    if base is None and usual_base is None:
        _refuse_without_base(source)
    located = resolve(source, fetching)
    origin, base_path = located.origin, None
    chosen = base or (usual_base if located.path.is_file() else None)
    if chosen is not None:
        own = networks_in_file(located.path) if located.path.is_file() else frozenset()
        found = resolve(chosen, fetching, without_weights=own)
        base_path = found.path
        at = f"@{found.origin.revision}" if found.origin.revision else ""
        origin = replace(origin, reference=f"{origin.reference}, with {found.origin.reference}{at}")
    decoder = None if preview is None else resolve(preview, fetching).path
    return Ingredients(located.path, base_path, decoder, origin)


def _refuse_without_base(source: Reference) -> None:
    """Refuse a reference to a single file that has no base before the file is fetched."""
    if isinstance(source, CivitaiReference | UrlReference):
        raise SourceError(
            f"{source}: a single file holds no configurations and no tokenizers; name the "
            "diffusers folder that they come from, such as --base "
            "stabilityai/stable-diffusion-xl-base-1.0 for SDXL, or a preset of its line"
        )
