"""CUDA graphs: work that is captured from a stream once, and launched as a whole."""

from collections.abc import Callable

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.cuda_bindings import Handle
from runtime.backends.device.stream import Stream
from runtime.errors import BackendError, in_one_line


class CaptureError(BackendError):
    """A CUDA graph could not be captured; the stream and the device can still be used."""


class Graph:
    """Work that was captured from a stream, at the addresses that it had then."""

    def __init__(self, cuda: Cuda, handle: Handle) -> None:
        self._cuda = cuda
        self._handle = handle

    def launch(self, stream: Stream) -> None:
        """Enqueue the captured work as a whole."""
        launched = self._cuda.bindings.cudaGraphLaunch(self._handle, stream.handle)
        self._cuda.call("cudaGraphLaunch", launched)

    def destroy(self) -> None:
        """Free the graph, which must not be running and is not launched again."""
        destroyed = self._cuda.bindings.cudaGraphExecDestroy(self._handle)
        self._cuda.call("cudaGraphExecDestroy", destroyed)


def capture(stream: Stream, enqueue: Callable[[], None]) -> Graph:
    """A graph of what `enqueue` puts on the stream; none of that work is done.

    Other threads go on meanwhile with streams of their own, and `enqueue` may allocate: the capture
    is relaxed. Raises CaptureError for any failure, after the capture was ended (if need be by
    `Stream.replace`) and its errors were cleared in every copy of CUDA's runtime.
    """
    try:
        return _captured(stream, enqueue)
    except Exception as error:
        words = in_one_line(error) or type(error).__name__
        raise CaptureError(words) from error


def _captured(stream: Stream, enqueue: Callable[[], None]) -> Graph:
    cuda, bindings = stream.cuda, stream.cuda.bindings
    mode = bindings.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
    try:
        cuda.call("cudaStreamBeginCapture", bindings.cudaStreamBeginCapture(stream.handle, mode))
        enqueue()
        graph = cuda.call("cudaStreamEndCapture", bindings.cudaStreamEndCapture(stream.handle))
        try:
            handle = cuda.call("cudaGraphInstantiate", bindings.cudaGraphInstantiate(graph, 0))
        finally:
            bindings.cudaGraphDestroy(graph)
    except BaseException:
        _leave_capture(stream)
        raise
    return Graph(cuda, handle)


def _leave_capture(stream: Stream) -> None:
    bindings = stream.cuda.bindings
    if stream.is_capturing:
        code, graph = bindings.cudaStreamEndCapture(stream.handle)
        # Half a graph, or none where the capture itself was spoilt.
        if code == bindings.cudaError_t.cudaSuccess and graph:
            bindings.cudaGraphDestroy(graph)
    stream.cuda.forget_errors()
    if stream.is_capturing:
        stream.replace()
