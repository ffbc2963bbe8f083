"""The effective weights of a LoRA set: base + sum of weight * delta, in fp32, stored as the base.

Always from the base, never from another set: whichever sets came before, a set's weights are the
same to the bit. Those of recent sets are kept within a budget of memory. A backend that multiplies
by itself gets the factors of plain LoRAs instead, those of all packs of a set as one product.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from runtime.backends.low_rank import LowRankUpdate, Weight, Weights
from runtime.draw.lora.deltas import Factors, is_low_rank, laid, low_rank
from runtime.draw.recent import Recent
from runtime.errors import PackageError
from runtime.package.manifest import ModelPackage
from runtime.package.pack import Kind, LoraPack, LoraSet, Target, fit_fault
from runtime.package.tensors import Tensor, stored

_OPENED = 64
"""Packs that stay mapped: that takes addresses, not memory."""


@dataclass(frozen=True, slots=True)
class _Change:
    """What one pack lays on one parameter."""

    kind: Kind
    factors: Factors
    scale: float
    """The target's, times the weight of the request."""


class EffectiveWeights:
    """Computes and keeps the weights that LoRA sets give the networks of one package.

    Threads may share it. Two that want the same weights at once both compute them.
    """

    def __init__(self, package: ModelPackage, budget_bytes: int, *, factored: bool = False) -> None:
        """`budget_bytes` bounds what is kept; the newest set's weights are kept whatever they take.

        `factored`: plain LoRAs are left as low-rank updates. Nothing is read yet.
        """
        self._package = package
        self._factored = factored
        self._kept: Recent[tuple[str, LoraSet], Weights] = Recent(budget_bytes, _size_bytes, 1)
        self._base = cache(package.tensors)
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
    ) -> tuple[str, Weight]:
        """An initializer, and what it is to hold."""
        initializer = self._package.manifest.roles[role].parameters[name].initializer
        base = self._base(role)[initializer]
        changes = [self._change(*part) for part in parts]
        if self._factored and all(is_low_rank(each.kind, each.factors) for each in changes):
            return initializer, _product(base, changes)
        return initializer, _sum(base, changes)

    def _change(self, pack: LoraPack, target: Target, weight: float) -> _Change:
        tensors = self._factors(pack)
        factors = {each: tensors[target.tensor_name(each)].fp32() for each in target.factors}
        return _Change(target.kind, factors, target.scale * weight)


def _sum(base: Tensor, changes: list[_Change]) -> Tensor:
    own = base.fp32()
    effective = own
    for change in changes:
        effective = laid(change.kind, change.factors, own, effective, change.scale)
    return Tensor(base.dtype, stored(effective, base.dtype))


def _product(base: Tensor, changes: list[_Change]) -> LowRankUpdate:
    """A sum of products is the product of the matrices side by side."""
    pairs = [low_rank(each.factors, base.values.shape, each.scale) for each in changes]
    ups, downs = zip(*pairs, strict=True)
    return LowRankUpdate(base, np.concatenate(ups, axis=1), np.concatenate(downs))


def _size_bytes(weights: Weights) -> int:
    return sum(weight.size_bytes for weight in weights.values())
