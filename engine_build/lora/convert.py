"""Lays the layers of a LoRA file on the parameters of a model package."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from engine_build.lora.formats import Layer, LoraFile
from engine_build.lora.guess import guess
from engine_build.lora.naming import Naming, Place
from runtime.backends.protocol import Array
from runtime.draw.lora.deltas import laid
from runtime.errors import PackageError, SourceError
from runtime.package.manifest import Manifest
from runtime.package.pack import AdaptedParameter
from runtime.package.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Conversion:
    """The targets and factors of a pack that is to be written."""

    targets: tuple[AdaptedParameter, ...]
    factors: Mapping[str, Array]
    """Arrays by `AdaptedParameter.tensor_name`: fp16 where the file has fp16, else fp32."""
    not_covered: tuple[str, ...]


def convert(file: LoraFile, manifest: Manifest) -> Conversion:
    """Find every layer's parameter, and compute every layer's change once as a test.

    Raises SourceError where no layer fits, or where a layer that fits by name has another shape:
    then the file is for another model, whatever other layers would fit.
    """
    naming = Naming(manifest)
    places: dict[Place, Layer] = {}
    nowhere = list(file.unread)
    for layer in file.layers:
        place = naming.place(layer.module)
        if place is None:
            nowhere.append(layer.module)
        elif place in places:
            twice = f"{places[place].module} and {layer.module}"
            raise SourceError(f"{file.path}: {twice} are the same layer of {manifest.name}")
        else:
            places[place] = layer
    if not places:
        raise SourceError(
            f"{file.path}: not one of its layers is in {manifest.name} ({manifest.family}); "
            f"{guess(nowhere, file.metadata)}"
        )
    targets = {place: _target(place, layer, manifest, file) for place, layer in places.items()}
    factors = {
        targets[place].tensor_name(factor): _kept(tensor)
        for place, layer in places.items()
        for factor, tensor in layer.factors.items()
    }
    return Conversion(tuple(targets.values()), factors, tuple(sorted(nowhere)))


def _target(place: Place, layer: Layer, manifest: Manifest, file: LoraFile) -> AdaptedParameter:
    role, name = place
    parameter = manifest.roles[role].parameters[name]
    factors = {factor: tensor.fp32() for factor, tensor in layer.factors.items()}
    try:
        # DoRA divides by the norm of a row, so that zeros would not do.
        base = np.ones(parameter.shape, np.float32)
        tried = laid(layer.kind, factors, base, base, layer.scale)
    except (PackageError, KeyError) as error:
        raise SourceError(
            f"{file.path}: {layer.module}: {error} of {name}, so it is not for {manifest.name}; "
            f"{guess(_names(file), file.metadata)}"
        ) from error
    if not np.isfinite(tried).all():
        raise SourceError(f"{file.path}: {layer.module} holds numbers that are not finite")
    return AdaptedParameter(
        role, name, layer.kind, parameter.shape, layer.scale, tuple(sorted(factors))
    )


def _names(file: LoraFile) -> Iterator[str]:
    yield from (layer.module for layer in file.layers)
    yield from file.unread


def _kept(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.values) if tensor.dtype == "F16" else tensor.fp32()
