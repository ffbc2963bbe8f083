"""The effective weights of a LoRA set: base + sum of weight * delta, in fp32, stored as the base.

Always from the base, never from another set: whichever sets came before, a set's weights are the
same to the bit. Those of recent sets are kept within a budget of memory.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TypeAlias

from runtime.errors import PackageError
from runtime.lora.deltas import laid
from runtime.lora.pack import LoraPack, LoraSet, Target, fit_fault
from runtime.manifest import ModelPackage
from runtime.recent import Recent
from runtime.tensors import Tensor, map_tensors, stored

Weights: TypeAlias = Mapping[str, Tensor]
"""What a network's initializers are to hold, by name; all others hold the package's own."""

LORA_BYTES = 512 * 2**20
"""What weights of recent sets may take, where nobody says."""

_OPENED = 64
"""Packs that stay mapped: that takes addresses, not memory."""


class EffectiveWeights:
    """Computes and keeps the weights that LoRA sets give the networks of one package."""

    def __init__(self, package: ModelPackage, budget_bytes: int) -> None:
        """`budget_bytes` bounds what is kept; the newest set's weights are kept whatever they take.

        Nothing is read yet.
        """
        self._package = package
        self._kept: Recent[tuple[str, LoraSet], Weights] = Recent(budget_bytes, _size_bytes, 1)
        self._base = cache(self._map_base)
        self._factors = lru_cache(_OPENED)(LoraPack.factors)

    @property
    def kept_bytes(self) -> int:
        """The memory that kept weights take."""
        return self._kept.used_bytes

    def open(self, loras: LoraSet) -> None:
        """Open the packs of a set, so that no job meets a missing one halfway.

        Raises PackageError where a pack's file is gone or damaged, or fits the package no more.
        """
        for pack, _ in loras:
            fault = fit_fault(pack.record, self._package.manifest)
            if fault:
                raise PackageError(fault)
            self._factors(pack)

    def of(self, loras: LoraSet, role: str) -> Weights:
        """The initializers of a role that the set changes; none where it leaves the role alone."""
        acting = tuple((pack, weight) for pack, weight in loras if role in pack.record.roles)
        if not acting:
            return {}
        key = role, acting
        weights = self._kept.get(key)
        if weights is None:
            weights = self._merge(acting, role)
            self._kept.keep(key, weights)
        return weights

    def _merge(self, loras: LoraSet, role: str) -> Weights:
        parts: dict[str, list[tuple[LoraPack, Target, float]]] = defaultdict(list)
        for pack, weight in loras:
            for target in pack.record.targets:
                if target.role == role:
                    parts[target.parameter].append((pack, target, weight))
        return dict(self._effective(role, name, acting) for name, acting in parts.items())

    def _effective(
        self, role: str, name: str, parts: list[tuple[LoraPack, Target, float]]
    ) -> tuple[str, Tensor]:
        """An initializer, and what it is to hold."""
        parameter = self._package.manifest.roles[role].parameters[name]
        base = self._base(role)[parameter.initializer].fp32()
        effective = base
        for pack, target, weight in parts:
            tensors = self._factors(pack)
            factors = {each: tensors[target.tensor_name(each)].fp32() for each in target.factors}
            scale = target.scale * weight
            effective = laid(target.kind, factors, base, effective, scale)
        return parameter.initializer, Tensor(parameter.dtype, stored(effective, parameter.dtype))

    def _map_base(self, role: str) -> Mapping[str, Tensor]:
        weights = self._package.manifest.roles[role].weights
        assert weights is not None, "a package without weights of its own takes no LoRA"
        return map_tensors(self._package.file(weights))


def _size_bytes(weights: Weights) -> int:
    return sum(tensor.values.nbytes for tensor in weights.values())
