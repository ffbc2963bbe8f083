"""A graph compiled in several forms: for any shape of its inputs, and for single shapes.

A form for one shape is the faster one. Each form takes the time of a compilation, and holds the
weights once more.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, wait
from time import perf_counter
from typing import Any

from runtime.backends.openvino.library import Request, Shapes
from runtime.backends.protocol import Array

Compile = Callable[[Shapes | None], Request]
"""Compiles the graph for these shapes, or for any. Raises BackendError."""

ROOM = 2**29
"""Bytes for all forms of a network."""
CODE = 80 * 2**20
"""Bytes that a form of a UNet takes beside the weights: measured on the demo's, 65 for any shape
and 90 for a single one."""
_REMEMBERED = 64
"""Shapes whose time is counted."""


def most_single(weights_bytes: int) -> int:
    """The number of forms for single shapes that a network of so many bytes in fp32 may have beside
    the form for any shape.
    """
    return max(0, ROOM // (weights_bytes + CODE) - 1)


class Forms:
    """The forms of one graph. For one thread at a time; `beside` compiles while that thread runs.

    The first call's shape gets a form in that call: a server's first is the usual picture. Other
    shapes run by the form for any shape: compiled beside the calls from then on where `ahead`, or
    else in the first call of another shape. A shape
    gets a form of its own once its calls have taken as long as a compilation: what is spent is at
    most twice what knowing the future would have spent. The form that was used longest ago goes.
    """

    def __init__(self, compile_form: Compile, beside: Executor, most: int, *, ahead: bool) -> None:
        """`most` forms for single shapes; with 0 the form for any shape is compiled here.

        Raises BackendError.
        """
        self._compile = compile_form
        self._beside = beside
        self._most = most
        self._ahead = ahead
        self._any: Future[Request] | None = None
        self._single: OrderedDict[Shapes, Future[Request]] = OrderedDict()
        self._spent: OrderedDict[Shapes, float] = OrderedDict()
        """Seconds that calls of a shape without a form have taken."""
        self._price = 0.0
        """Seconds of a compilation."""
        if most == 0:
            self._any = _done(compile_form(None))

    @property
    def shapes(self) -> list[Shapes]:
        """The shapes that have a form, or will have one, the one used longest ago first."""
        return list(self._single)

    def run(self, inputs: Mapping[str, Array], weights: Mapping[str, Any]) -> dict[str, Array]:
        """Named arrays in, named arrays out; `weights` as `Request.run`. Raises BackendError."""
        shapes = tuple((name, array.shape) for name, array in inputs.items())
        if request := self._own(shapes):
            return request.run(inputs, weights)
        request = self._for_any().result()
        begin = perf_counter()
        outputs = request.run(inputs, weights)
        self._count(shapes, perf_counter() - begin)
        return outputs

    def close(self) -> None:
        """Give up what is not compiled yet, and wait for what is being compiled."""
        forms = [*self._single.values(), *([self._any] if self._any else [])]
        wait([form for form in forms if not form.cancel()])

    def _own(self, shapes: Shapes) -> Request | None:
        """The form for these shapes; None where there is none yet."""
        if self._any is None and not self._single:
            begin = perf_counter()
            self._single[shapes] = _done(self._compile(shapes))
            self._price = perf_counter() - begin
            if self._ahead:
                self._for_any()
        form = self._single.get(shapes)
        if form is None or not form.done():
            return None
        self._single.move_to_end(shapes)
        return form.result()

    def _for_any(self) -> Future[Request]:
        """The form for any shape, which may still be compiled."""
        if self._any is None:
            self._any = self._beside.submit(self._compile, None)
        return self._any

    def _count(self, shapes: Shapes, seconds: float) -> None:
        """Count a call's time for its shape, and have a form compiled once that is worth it."""
        if self._most == 0 or shapes in self._single:
            return
        spent = self._spent.pop(shapes, 0.0) + seconds
        if spent < self._price:
            self._spent[shapes] = spent
            if len(self._spent) > _REMEMBERED:
                self._spent.popitem(last=False)
            return
        if len(self._single) == self._most:
            self._single.popitem(last=False)
        self._single[shapes] = self._beside.submit(self._compile, shapes)


def _done(request: Request) -> Future[Request]:
    """A Future of what is there already."""
    future: Future[Request] = Future()
    future.set_result(request)
    return future
