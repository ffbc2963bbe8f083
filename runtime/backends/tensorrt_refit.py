"""Replaces weights of an open engine, always from the package's own.

An engine keeps what it was given. So each time exactly the union is written: the weights that were
replaced before and those that are to be now, each as given here or as the package has it.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from runtime.backends.cuda import Stream
from runtime.backends.tensorrt_vendor import Vendor
from runtime.errors import BackendError
from runtime.manifest import ModelPackage
from runtime.target import Target
from runtime.tensors import Tensor, map_tensors

if TYPE_CHECKING:
    import tensorrt_rtx as trt

# The vendor's names of the dtypes that weights are stored in.
_DTYPES = {"F32": "FLOAT", "F16": "HALF", "BF16": "BF16"}


class Refit:
    """The weights of one engine."""

    def __init__(
        self,
        vendor: Vendor,
        engine: "trt.ICudaEngine",
        package: ModelPackage,
        target: Target,
        role: str,
    ) -> None:
        """The engine is as it was opened: its weights are the package's own."""
        self._vendor = vendor
        self._engine = engine
        self._package = package
        self._target = target
        self._role = role
        self._replaceable = frozenset(target.record.identity.engines[role].refittable)
        self._replaced: frozenset[str] = frozenset()

    def replace(self, weights: Mapping[str, Tensor], stream: Stream) -> None:
        """Write them, behind what is on the stream, and wait. Raises BackendError."""
        unknown = sorted(weights.keys() - self._replaceable)
        if unknown:
            raise BackendError(
                f"{self._role}: {unknown[0]} cannot be replaced in the target {self._target.name}; "
                "compile it without --fixed-weights"
            )
        names = self._replaced | weights.keys()
        if not names:
            return
        # They lie in host memory that has to last until the device has them.
        given = self._give(names, weights)
        begun = self._refitter.refit_cuda_engine_async(stream.address)
        self._vendor.check(begun, self._role, "replace its weights")
        stream.synchronize()
        del given
        self._replaced = frozenset(weights)

    def _give(self, names: Iterable[str], weights: Mapping[str, Tensor]) -> list[object]:
        """Hand over these, and what the vendor wants rewritten together with them."""
        kept: list[object] = []
        waiting = sorted(names)
        while waiting:
            for name in waiting:
                tensor = weights.get(name) or self._own[name]
                values = np.ascontiguousarray(tensor.values)
                dtype = getattr(self._vendor.api.DataType, _DTYPES[tensor.dtype])
                given = self._vendor.api.Weights(dtype, values.ctypes.data, values.size)
                kept += (values, given)
                taken = self._refitter.set_named_weights(name, given)
                self._vendor.check(taken, self._role, f"take other values for {name}")
            waiting = sorted(self._refitter.get_missing_weights())
        return kept

    @cached_property
    def _refitter(self) -> "trt.Refitter":
        return self._vendor.api.Refitter(self._engine, self._vendor.log.logger)

    @cached_property
    def _own(self) -> Mapping[str, Tensor]:
        weights = self._package.manifest.roles[self._role].weights
        assert weights is not None, "a package without weights of its own takes no LoRA"
        return map_tensors(self._package.file(weights))
