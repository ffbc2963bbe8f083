"""Replaces weights of an open TensorRT engine by its vendor's refitter.

The refitter gets low-rank updates in device memory, where they are multiplied, the package's own
weights there too where a copy of them is kept, and all other weights in host memory. Weights are
written in rounds, so that a model's updates need not all lie on the device beside its engines at
once.
"""

import logging
from itertools import accumulate
from time import perf_counter
from typing import TYPE_CHECKING

from runtime.backends.device.bases import KeptBases
from runtime.backends.device.cuda import DeviceMemory
from runtime.backends.device.places import offsets
from runtime.backends.device.replaced import ReplacedWeights
from runtime.backends.device.stream import Stream
from runtime.backends.device.weights import DeviceWeights
from runtime.backends.low_rank import LowRankUpdate, Weight, Weights, base_of
from runtime.backends.tensorrt.vendor import Vendor
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage
from runtime.package.target import Target
from runtime.package.tensors import Tensor

if TYPE_CHECKING:
    import tensorrt_rtx as trt

logger = logging.getLogger(__name__)

ROUND_BYTES = 512 * 2**20
"""The most that a round writes; a single weight may be larger, and the weights that TensorRT fused
with those of the round come on top."""

# TensorRT's names of the dtypes that weights are stored in.
_DTYPES = {"F32": "FLOAT", "F16": "HALF", "BF16": "BF16"}


class Refit:
    """Replaces the weights of one engine."""

    def __init__(
        self,
        vendor: Vendor,
        engine: "trt.ICudaEngine",
        package: ModelPackage,
        target: Target,
        role: str,
        *,
        stream: Stream,
    ) -> None:
        """`engine` is as it was opened, with the package's own weights, and runs on `stream`."""
        self._vendor = vendor
        self._engine = engine
        self._target = target
        self._role = role
        self._stream = stream
        device = vendor.device
        self._bases = KeptBases(device, role)
        self._device = DeviceWeights(device, stream, self._bases)
        self._replaceable = frozenset(target.record.identity.engines[role].refittable)
        self._replaced = ReplacedWeights(package, role)

    def replace(self, weights: Weights) -> None:
        """Let exactly `weights` be replaced, in the stream's order, and wait.

        Raises BackendError.
        """
        unknown = sorted(weights.keys() - self._replaceable)
        if unknown:
            raise BackendError(
                f"{self._role}: {unknown[0]} cannot be replaced in the target {self._target.name}; "
                "compile it without --fixed-weights"
            )
        began = perf_counter()
        with self._replaced.union(weights) as wanted:
            size = sum(base_of(weight).size_bytes for weight in wanted.values())
            count = len(wanted)
            if wanted:
                self._write(wanted, weights)
        seconds = perf_counter() - began
        logger.info(
            "%s: %d weights written, %.3f GB, in %.3f s", self._role, count, size / 1e9, seconds
        )

    def close(self) -> None:
        """Give the memory back that is kept beside the engine."""
        self._bases.close()

    def _write(self, wanted: dict[str, Weight], weights: Weights) -> None:
        """Write `wanted`, the union of what was replaced and `weights`, and empty it."""
        # A new refitter each time: the vendor's binding keeps all weights that one was ever given.
        refitter = self._vendor.api.Refitter(self._engine, self._vendor.log.logger)
        while wanted:
            for name in self._write_round(refitter, wanted, weights):
                wanted.pop(name, None)

    def _write_round(self, refitter: "trt.Refitter", wanted: Weights, weights: Weights) -> set[str]:
        """Write the first of `wanted`, and the weights that TensorRT wants rewritten with them."""
        written: set[str] = set()
        memories: list[DeviceMemory] = []
        due = _first(wanted)
        try:
            while due:
                written |= due.keys()
                self._hand_over(refitter, due, memories)
                due = self._missing(refitter, written, weights)
            begun = refitter.refit_cuda_engine_async(self._stream.address)
            self._vendor.check(begun, self._role, "replace its weights")
            self._stream.synchronize()
        finally:
            # The next round would read again whatever is still set.
            for name in written:
                refitter.unset_named_weights(name)
            for memory in memories:
                self._vendor.device.cuda.free(memory)
        return written

    def _missing(
        self, refitter: "trt.Refitter", written: set[str], weights: Weights
    ) -> dict[str, Weight]:
        """The weights that TensorRT fused with those that were set, and wants set as well."""
        missing = set(refitter.get_missing_weights()) - written
        if not missing <= self._replaceable:
            # TensorRT reports a weight that has no name as an empty name.
            others = ", ".join(sorted(filter(None, missing - self._replaceable)))
            raise BackendError(
                f"{self._role}: {self._vendor.flavour.name} wants weights rewritten that are not "
                f"the target's to replace ({others or 'without a name'}); draw without LoRAs, or "
                "with --backend onnxruntime-cuda"
            )
        return {name: self._replaced.weight(name, weights) for name in sorted(missing)}

    def _hand_over(
        self, refitter: "trt.Refitter", due: Weights, memories: list[DeviceMemory]
    ) -> None:
        """Set weights, updates as computed on the device, and the package's own from the copy that
        is kept there; the memory taken for these joins `memories`, also where writing fails.
        """
        location = self._vendor.api.TensorLocation
        updates: dict[str, LowRankUpdate] = {}
        for name, weight in due.items():
            if isinstance(weight, LowRankUpdate) and (weight.products or name in self._bases):
                updates[name] = weight
            else:
                own = base_of(weight)
                self._set(refitter, name, own, own.values.ctypes.data, location.HOST)
        if not updates:
            return
        places, size = offsets(updates)
        memory = self._vendor.device.cuda.allocate(size, "LoRA weights")
        memories.append(memory)
        self._device.write(
            updates, {name: memory.address + place for name, place in places.items()}
        )
        for name, update in updates.items():
            address = memory.address + places[name]
            self._set(refitter, name, update.base, address, location.DEVICE)

    def _set(
        self,
        refitter: "trt.Refitter",
        name: str,
        tensor: Tensor,
        address: int,
        location: "trt.TensorLocation",
    ) -> None:
        """Set one weight; `tensor` has the dtype and size of the values at the address."""
        assert tensor.values.flags.c_contiguous
        api = self._vendor.api
        dtype = getattr(api.DataType, _DTYPES[tensor.dtype])
        given = api.Weights(dtype, address, tensor.values.size)
        taken = refitter.set_named_weights(name, given, location)
        self._vendor.check(taken, self._role, f"take other values for {name}")


def _first(wanted: Weights) -> dict[str, Weight]:
    """The first weights, as many as a round takes, and at least one."""
    sizes = accumulate(base_of(weight).size_bytes for weight in wanted.values())
    names = [name for name, size in zip(wanted, sizes, strict=True) if size <= ROUND_BYTES]
    return {name: wanted[name] for name in names or list(wanted)[:1]}
