"""A LoRA set's effective weights: base + sum of weight * delta in fp32, stored in base's dtype.

A set's weights are always computed from the base, never from another set's weights, and so have the
same bits whatever was drawn before. The weights of recent sets are kept within a budget of memory.
A backend with `multiplies_updates` gets low-rank factors instead for each parameter that only plain
LoRAs change: those of all packs of the set, as their files have them.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TypeAlias

from runtime.backends.low_rank import LowRankUpdate, Product, Weight, Weights, merged
from runtime.draw.lora.deltas import Factors, is_low_rank, laid, low_rank
from runtime.draw.recent import Recent
from runtime.errors import PackageError
from runtime.package.inversion import Rows, table_of
from runtime.package.manifest import ModelPackage
from runtime.package.pack import AdaptedParameter, LoraPack, LoraSet, fit_fault
from runtime.package.tensors import Tensor, stored

_OPENED = 64
"""The most packs whose files stay mapped, which takes address space and no memory."""


_Part: TypeAlias = tuple[Mapping[str, Tensor], AdaptedParameter, float]
"""A pack's tensors, a parameter that the pack changes, and the LoRA's weight in the request."""


@dataclass(frozen=True, slots=True)
class _Change:
    """The change that one pack makes to one parameter."""

    target: AdaptedParameter
    factors: Factors
    weight: float
    """The LoRA's weight in the request."""


class EffectiveWeights:
    """Computes and keeps the weights that LoRA sets give the networks of one package.

    Threads may share an instance; two threads that want the same weights at once both compute them.
    """

    def __init__(self, package: ModelPackage, budget_bytes: int, *, factored: bool = False) -> None:
        """`budget_bytes` bounds the kept weights; the latest, of one set and role, always stay.

        `factored` leaves plain LoRAs as low-rank updates. Nothing is read yet.
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
        """Open the packs of a set, so that a missing pack is found before a job begins.

        Raises PackageError for a pack whose file is gone or damaged, that no longer fits the
        package, or that changes what the backend cannot replace.
        """
        for pack, _ in loras:
            fault = fit_fault(pack.record, self._package.manifest)
            if fault:
                raise PackageError(fault)
            self._check_replaceable(pack)
            self._factors(pack)

    def _check_replaceable(self, pack: LoraPack) -> None:
        """Engines for a GPU, which multiply updates, have biases and norms compiled into them."""
        targets = pack.record.targets if self._factored else ()
        fixed = next((each for each in targets if len(each.shape) < 2), None)
        if fixed is not None:
            raise PackageError(
                f"{pack.id} changes {fixed.role} {fixed.parameter}, and engines for a GPU take new "
                "values of matrices and kernels alone; draw with the LoRA on the CPU"
            )

    def of(self, loras: LoraSet, role: str) -> Weights:
        """New values of the role's initializers that the set changes, by name; perhaps none.

        Raises PackageError for a LoRA that cannot be read or does not fit.
        """
        acting = tuple((pack, weight) for pack, weight in loras if role in pack.record.roles)
        if not acting:
            return {}
        key = role, acting
        weights = self._kept.get(key)
        if weights is None:
            weights = self._merge(acting, role)
            self._kept.keep(key, weights)
        return weights

    def with_rows(self, rows: Rows, weights: Weights) -> Weights:
        """New values of a role's initializers, with its token embedding's `rows`, which are all of
        one role, holding their vectors.

        Raises PackageError for an embedding that cannot be read.
        """
        role, manifest = rows[0].role, self._package.manifest
        name = manifest.roles[role].parameters[table_of(manifest, role)].initializer
        base = merged(weights.get(name, self._base(role)[name]))
        vectors = {row.inversion: row.inversion.of(role) for row in rows}
        table = base.values.copy()
        for row in rows:
            table[row.token] = stored(vectors[row.inversion][row.index], base.dtype)
        return {**weights, name: Tensor(base.dtype, table)}

    def _merge(self, loras: LoraSet, role: str) -> Weights:
        parts: dict[str, list[_Part]] = defaultdict(list)
        for pack, weight in loras:
            # Once for the set, which may have more packs than stay mapped.
            tensors = self._factors(pack)
            for target in pack.record.targets:
                if target.role == role:
                    parts[target.parameter].append((tensors, target, weight))
        return dict(self._effective(role, name, acting) for name, acting in parts.items())

    def _effective(self, role: str, name: str, parts: Sequence[_Part]) -> tuple[str, Weight]:
        """The name of a parameter's initializer, and its new value."""
        initializer = self._package.manifest.roles[role].parameters[name].initializer
        base = self._base(role)[initializer]
        if self._factored and all(is_low_rank(target) for _, target, _ in parts):
            shape = base.values.shape
            products = tuple(_product(*part, shape) for part in parts)
            return initializer, LowRankUpdate(base, products)
        return initializer, _sum(base, [_change(*part) for part in parts])


def _change(tensors: Mapping[str, Tensor], target: AdaptedParameter, weight: float) -> _Change:
    factors = {name: each.fp32() for name, each in _stored(tensors, target).items()}
    return _Change(target, factors, weight)


def _product(
    tensors: Mapping[str, Tensor], target: AdaptedParameter, weight: float, shape: tuple[int, ...]
) -> Product:
    return low_rank(_stored(tensors, target), shape, target.scale * weight)


def _stored(tensors: Mapping[str, Tensor], target: AdaptedParameter) -> dict[str, Tensor]:
    return {each: tensors[target.tensor_name(each)] for each in target.factors}


def _sum(base: Tensor, changes: list[_Change]) -> Tensor:
    own = base.fp32()
    effective = own
    for change in changes:
        effective = laid(change.target, change.factors, own, effective, change.weight)
    return Tensor(base.dtype, stored(effective, base.dtype))


def _size_bytes(weights: Weights) -> int:
    return sum(weight.size_bytes for weight in weights.values())
