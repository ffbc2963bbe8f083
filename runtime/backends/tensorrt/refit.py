"""Replaces weights of an open engine, always from the package's own.

An engine keeps what it was given. So each time exactly the union is written: the weights that were
replaced before and those that are to be now, each as given here or as the package has it. Low-rank
updates are multiplied on the device and handed over there, all others from host memory. That is
done in rounds, so that a model's updates need not all lie on the device beside its engines at once.
"""

import logging
from collections.abc import Mapping
from functools import cached_property
from itertools import accumulate
from time import perf_counter
from typing import TYPE_CHECKING

from runtime.backends.device.cuda import DeviceMemory
from runtime.backends.device.stream import Stream
from runtime.backends.device.weights import DeviceWeights, offsets
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
"""What a round may write; a single weight may be larger."""

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
        *,
        stream: Stream,
    ) -> None:
        """The engine is as it was opened: its weights are the package's. It runs on `stream`."""
        self._vendor = vendor
        self._engine = engine
        self._package = package
        self._target = target
        self._role = role
        self._stream = stream
        self._device = DeviceWeights(vendor.device.cuda, stream, vendor.device.pinned)
        self._replaceable = frozenset(target.record.identity.engines[role].refittable)
        self._replaced: frozenset[str] = frozenset()

    def replace(self, weights: Weights) -> None:
        """Write them, behind what is on the stream, and wait. Raises BackendError."""
        unknown = sorted(weights.keys() - self._replaceable)
        if unknown:
            raise BackendError(
                f"{self._role}: {unknown[0]} cannot be replaced in the target {self._target.name}; "
                "compile it without --fixed-weights"
            )
        began = perf_counter()
        # Whatever fails below, these may hold something else than the package's own.
        self._replaced |= weights.keys()
        wanted = {name: self._wanted(name, weights) for name in sorted(self._replaced)}
        size = sum(base_of(weight).size_bytes for weight in wanted.values())
        count = len(wanted)
        if not wanted:
            return
        # Each time another one: the vendor's binding keeps all that a refitter was ever given.
        refitter = self._vendor.api.Refitter(self._engine, self._vendor.log.logger)
        while wanted:
            for name in self._write_round(refitter, wanted, weights):
                wanted.pop(name, None)
        self._replaced = frozenset(weights)
        seconds = perf_counter() - began
        logger.info(
            "%s: %d weights written, %.3f GB, in %.3f s", self._role, count, size / 1e9, seconds
        )

    def _write_round(self, refitter: "trt.Refitter", wanted: Weights, weights: Weights) -> set[str]:
        """Write the first of `wanted`, and what the vendor wants rewritten together with them."""
        written: set[str] = set()
        memories: list[DeviceMemory] = []
        due = _first(wanted)
        try:
            while due:
                written |= due.keys()
                memories += self._hand_over(refitter, due)
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
        """What the vendor has fused with weights that were set, and wants as well."""
        missing = set(refitter.get_missing_weights()) - written
        if not missing <= self._replaceable:
            # One that has no name is told as an empty one.
            others = ", ".join(sorted(filter(None, missing - self._replaceable)))
            raise BackendError(
                f"{self._role}: {self._vendor.flavour.name} wants weights rewritten that are not "
                f"the target's to replace ({others or 'without a name'}); draw without LoRAs, or "
                "with --backend onnxruntime-cuda"
            )
        return {name: self._wanted(name, weights) for name in sorted(missing)}

    def _hand_over(self, refitter: "trt.Refitter", due: Weights) -> list[DeviceMemory]:
        """Set them where they lie; returns the device's memory that was taken for it."""
        location = self._vendor.api.TensorLocation
        updates: dict[str, LowRankUpdate] = {}
        for name, weight in due.items():
            if isinstance(weight, LowRankUpdate):
                updates[name] = weight
            else:
                self._set(refitter, name, weight, weight.values.ctypes.data, location.HOST)
        if not updates:
            return []
        places, size = offsets(updates)
        memory = self._vendor.device.cuda.allocate(size, "LoRA weights")
        self._device.write(
            (update, memory.address + places[name]) for name, update in updates.items()
        )
        for name, update in updates.items():
            address = memory.address + places[name]
            self._set(refitter, name, update.base, address, location.DEVICE)
        return [memory]

    def _set(
        self,
        refitter: "trt.Refitter",
        name: str,
        tensor: Tensor,
        address: int,
        location: "trt.TensorLocation",
    ) -> None:
        """`tensor` says what lies at the address."""
        assert tensor.values.flags.c_contiguous
        api = self._vendor.api
        dtype = getattr(api.DataType, _DTYPES[tensor.dtype])
        given = api.Weights(dtype, address, tensor.values.size)
        taken = refitter.set_named_weights(name, given, location)
        self._vendor.check(taken, self._role, f"take other values for {name}")

    def _wanted(self, name: str, weights: Weights) -> Weight:
        return weights[name] if name in weights else self._own[name]

    @cached_property
    def _own(self) -> Mapping[str, Tensor]:
        return self._package.tensors(self._role)


def _first(wanted: Weights) -> dict[str, Weight]:
    """As many as a round takes, and at least one."""
    sizes = accumulate(base_of(weight).size_bytes for weight in wanted.values())
    names = [name for name, size in zip(wanted, sizes, strict=True) if size <= ROUND_BYTES]
    return {name: wanted[name] for name in names or list(wanted)[:1]}
