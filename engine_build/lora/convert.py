"""Lays the layers of a LoRA file on the parameters of a model package."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from engine_build.checkpoint.printable import printable
from engine_build.lora.endings import ALONE, ALPHA, prefixes
from engine_build.lora.formats import LoraFile, Part
from engine_build.lora.layers import Layer, read_layer
from engine_build.lora.naming import Naming, Place, refuse_whole_networks
from runtime.backends.protocol import Array
from runtime.draw.lora.deltas import laid
from runtime.errors import PackageError, SourceError
from runtime.package.manifest import Manifest
from runtime.package.pack import AdaptedParameter
from runtime.package.tensors import Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Conversion:
    """The targets and factors of a pack that is to be written."""

    targets: tuple[AdaptedParameter, ...]
    factors: Mapping[str, Array]
    """Arrays by `AdaptedParameter.tensor_name`: fp16 where the file has fp16, else fp32."""
    not_covered: tuple[str, ...]


def convert(file: LoraFile, manifest: Manifest) -> Conversion:
    """Find every layer's parameter, and compute every layer's change once as a test.

    Raises SourceError where no layer fits, where a network would be left out as a whole, where a
    tensor of a layer that fits is not understood, or where a layer that fits by name has another
    shape: then the file is for another model, whatever other layers would fit.
    """
    naming = Naming(manifest)
    _refuse_alphas_of_networks(file)
    places: dict[Place, list[Part]] = {}
    nowhere = set(_unread(file, naming))
    for part in file.parts:
        place = naming.place(part.module)
        if place is None:
            _refuse_within_a_layer(file, naming, part.module)
            nowhere.add(part.module)
        else:
            places.setdefault(place, []).append(part)
    if not places:
        raise SourceError(
            f"{file.path}: it is {file.described}; not one of its layers is in {manifest.name} "
            f"({manifest.family}), such as {printable(min(nowhere))}"
        )
    modules = dict.fromkeys(part.module for part in file.parts)
    refuse_whole_networks(file.path, naming.left_over(modules))
    targets: list[AdaptedParameter] = []
    factors: dict[str, Array] = {}
    for (role, name), parts in places.items():
        shape = manifest.roles[role].parameters[name].shape
        layer = read_layer(file.path, parts, shape, file.alphas)
        for target, tensors in _targets((role, name), layer, manifest, file):
            _try(target, tensors, layer.module, manifest, file)
            targets.append(target)
            factors |= {target.tensor_name(key): _kept(each) for key, each in tensors.items()}
    if file.folded_alpha is not None:
        logger.warning(
            "%s: its metadata states the alpha %g of kohya's scripts, and its factors have others' "
            "names: taken as multiplied into the factors",
            file.path,
            file.folded_alpha,
        )
    return Conversion(tuple(targets), factors, tuple(sorted(map(printable, nowhere))))


def _unread(file: LoraFile, naming: Naming) -> Iterator[str]:
    """The tensors of unknown endings, none of which may belong to a layer of the package."""
    for name in file.unread:
        _refuse_within_a_layer(file, naming, name)
        if name in ALONE:
            raise _of_no_layer(file, name)
        yield name


def _refuse_alphas_of_networks(file: LoraFile) -> None:
    """Raise SourceError for an alpha that stands for more than one layer: nobody says which."""
    factors = {part.module for part in file.parts if part.ending.factor != ALPHA}
    alone = (part for part in file.parts if part.module not in factors)
    for part in alone:
        above = (f"{part.module}.", f"{part.module}_")
        if any(each.startswith(above) for each in factors):
            raise _of_no_layer(file, part.name)


def _of_no_layer(file: LoraFile, name: str) -> SourceError:
    return SourceError(
        f"{file.path}: {printable(name)} is an alpha of no layer, so that what it scales is not "
        "known; give each layer its own"
    )


def _refuse_within_a_layer(file: LoraFile, naming: Naming, name: str) -> None:
    """Raise SourceError for a name with no place that begins with one of the package's layers."""
    module = next((each for each in prefixes(name) if naming.place(each)), None)
    if module is not None:
        raise SourceError(
            f"{file.path}: the layer {printable(module)} has a tensor that is not "
            f"understood, {printable(name)}; "
            f"it is {file.described}"
        )


def _targets(
    place: Place, layer: Layer, manifest: Manifest, file: LoraFile
) -> Iterator[tuple[AdaptedParameter, Mapping[str, Tensor]]]:
    """The parameters that a layer changes, each with the factors of its change."""
    role, name = place
    parameters = manifest.roles[role].parameters
    change = layer.weight
    if change is not None:
        kept = tuple(sorted(change.factors))
        yield (
            AdaptedParameter(
                role,
                name,
                change.kind,
                parameters[name].shape,
                change.scale,
                kept,
                change.decomposition,
            ),
            change.factors,
        )
    if layer.bias is not None:
        bias = f"{name.removesuffix('.weight')}.bias"
        if bias not in parameters:
            raise SourceError(
                f"{file.path}: the layer {printable(layer.module)} changes a bias, and "
                f"{manifest.name} has no {bias}"
            )
        shape = parameters[bias].shape
        yield (
            AdaptedParameter(role, bias, "diff", shape, layer.bias_scale, ("diff",)),
            {"diff": layer.bias},
        )


def _try(
    target: AdaptedParameter,
    tensors: Mapping[str, Tensor],
    module: str,
    manifest: Manifest,
    file: LoraFile,
) -> None:
    """Compute a change once. Raises SourceError where the change does not fit, or is not finite."""
    base = np.ones(target.shape, np.float32)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # Told below, by the layer's name.
            read = {key: each.fp32() for key, each in tensors.items()}
            tried = laid(target, read, base, base, 1.0)
    except PackageError as error:
        raise SourceError(
            f"{file.path}: {printable(module)}: {error} of {target.parameter}, so it is not for "
            f"{manifest.name}; it is {file.described}"
        ) from error
    if not np.isfinite(tried).all():
        raise SourceError(f"{file.path}: {printable(module)} holds numbers that are not finite")


def _kept(tensor: Tensor) -> Array:
    # As mapped where NumPy can: a difference of all weights is as large as a model.
    mapped = tensor.dtype in {"F16", "F32"}
    return np.ascontiguousarray(tensor.values) if mapped else tensor.fp32()
