"""The driver's module, as far as `DriverBindings` names it."""

# The names are the vendor's.
# ruff: noqa: N802

from typing import Any

from tests.fakes.cuda.codes import FakeResult
from tests.fakes.cuda.device import FakeDevice
from tests.fakes.kernels import KERNELS


class FakeDriver(FakeDevice):
    """The functions below the runtime."""

    CUresult = FakeResult

    def cuGetErrorName(self, error: FakeResult) -> tuple[FakeResult, bytes]:
        return FakeResult.CUDA_SUCCESS, error.name.encode()

    def cuGetErrorString(self, error: FakeResult) -> tuple[FakeResult, bytes]:
        return FakeResult.CUDA_SUCCESS, f"the words for {error.value}".encode()

    def cuModuleLoadData(self, image: bytes) -> tuple[FakeResult, int]:
        return FakeResult.CUDA_SUCCESS, self._made(self._modules, image.decode())

    def cuModuleGetFunction(self, hmod: int, name: bytes) -> tuple[FakeResult, int]:
        if f".entry {name.decode()}(" not in self._modules[hmod]:
            return FakeResult.CUDA_ERROR_NOT_FOUND, 0
        return FakeResult.CUDA_SUCCESS, self._made(self._functions, name.decode())

    def cuLaunchKernel(  # noqa: PLR0917 - as the real one
        self,
        f: int,
        gridDimX: int,  # noqa: ARG002
        gridDimY: int,  # noqa: ARG002
        gridDimZ: int,  # noqa: ARG002
        blockDimX: int,  # noqa: ARG002
        blockDimY: int,  # noqa: ARG002
        blockDimZ: int,  # noqa: ARG002
        sharedMemBytes: int,  # noqa: ARG002
        hStream: int,
        kernelParams: tuple[tuple[int, ...], tuple[Any, ...]],
        extra: int,  # noqa: ARG002
    ) -> tuple[FakeResult]:
        values, types = kernelParams
        if len(values) != len(types):
            return (FakeResult.CUDA_ERROR_INVALID_VALUE,)
        kernel = KERNELS[self._functions[f]]
        self.enqueue(hStream, lambda: kernel(self.view, values))
        return (FakeResult.CUDA_SUCCESS,)
