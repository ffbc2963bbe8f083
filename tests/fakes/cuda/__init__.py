"""Stands in for `cuda-bindings` where there is no GPU: memory, streams, events, graphs, kernels.

It is as lazy as the real thing. Work on a stream is done when somebody waits for it, and not
before: host memory that is written again too early, or read too soon, gives wrong numbers here too.
Device addresses are no addresses of this process. A captured graph holds the addresses that it was
captured with. It computes nothing itself: a kernel of ours is looked up in the PTX and computed by
`tests.fakes.kernels`, and the fakes of vendors pass a function.

A capture is as strict as CUDA's: a call that its mode forbids fails and spoils it, what is put on a
spoilt stream is refused, and its end gives no graph. An error stays the last one of its thread, in
the copy of the runtime that met it, until it is read there: vendors have a copy of their own.

https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__STREAM.html
"""

from tests.fakes.cuda.bindings import FakeCuda
from tests.fakes.cuda.codes import (
    FakeCaptureMode,
    FakeCaptureStatus,
    FakeError,
    FakeMemcpyKind,
    FakeProperties,
    FakeResult,
)
from tests.fakes.cuda.errors import LastErrors
from tests.fakes.cuda.runtime import FakeRuntime
from tests.fakes.cuda.streams import FakeStream, Work

__all__ = [
    "FakeCaptureMode",
    "FakeCaptureStatus",
    "FakeCuda",
    "FakeError",
    "FakeMemcpyKind",
    "FakeProperties",
    "FakeResult",
    "FakeRuntime",
    "FakeStream",
    "LastErrors",
    "Work",
]
