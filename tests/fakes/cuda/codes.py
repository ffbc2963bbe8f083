"""Codes and enumerations, with the numbers of the real ones."""

# The names are the vendor's.
# ruff: noqa: N815

from dataclasses import dataclass
from enum import IntEnum


class FakeError(IntEnum):
    """Error codes, with the numbers of the real ones."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901
    cudaErrorStreamCaptureWrongThread = 908


class FakeResult(IntEnum):
    """The driver's error codes, with the numbers of the real ones."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_NOT_FOUND = 500


class FakeMemcpyKind(IntEnum):
    """Directions of a copy, with the numbers of the real ones."""

    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class FakeCaptureMode(IntEnum):
    """Whom a capture forbids unsafe calls, with the numbers of the real ones."""

    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class FakeCaptureStatus(IntEnum):
    """How a stream stands to captures, with the numbers of the real ones."""

    cudaStreamCaptureStatusNone = 0
    cudaStreamCaptureStatusActive = 1
    cudaStreamCaptureStatusInvalidated = 2


@dataclass(frozen=True)
class FakeProperties:
    """Properties of a device."""

    name: bytes = b"Imagined GPU"
    major: int = 8
    minor: int = 9
    totalGlobalMem: int = 24 * 2**30
