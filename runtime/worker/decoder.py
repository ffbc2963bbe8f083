"""The decoder's thread: takes pictures of several lanes, those of the first lane before others."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from runtime.draw.decode import Pixels

Decode = Callable[[], Pixels]


class Lane:
    """Pictures that are decoded in the order in which they come, with room for so many."""

    def __init__(self, room: int) -> None:
        """`room`: the most pictures that are decoded and not yet taken away."""
        self.room = room
        self.waiting: deque[tuple[Decode, Future[Pixels]]] = deque()


class DecoderThread:
    """Decodes one picture at a time. Any thread may submit."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        """A picture of a lane goes before those of the lanes behind it, where its lane has room."""
        self._lanes = lanes
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)
        self._thread.start()

    def submit(self, lane: Lane, decode: Decode) -> Future[Pixels]:
        """Have a picture decoded; it has a place of the lane's room until `taken`."""
        pixels: Future[Pixels] = Future()
        with self._changed:
            lane.waiting.append((decode, pixels))
            self._changed.notify()
        return pixels

    def taken(self, lane: Lane) -> None:
        """A picture of the lane is done with."""
        with self._changed:
            lane.room += 1
            self._changed.notify()

    def cancel(self) -> None:
        """Decode no other picture than the one under way, if any: the others are canceled."""
        with self._changed:
            self._closed = True
            for lane in self._lanes:
                for _, pixels in lane.waiting:
                    pixels.cancel()
                lane.waiting.clear()
            self._changed.notify()

    def join(self) -> None:
        """Wait for the picture under way, after `cancel`."""
        self._thread.join()

    def _run(self) -> None:
        while (picture := self._next()) is not None:
            decode, pixels = picture
            try:
                pixels.set_result(decode())
            except BaseException as error:
                pixels.set_exception(error)

    def _next(self) -> tuple[Decode, Future[Pixels]] | None:
        """Wait for the next picture; None once there is to be no other."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._open_lane() is not None)
            lane = self._open_lane()
            if self._closed or lane is None:
                return None
            lane.room -= 1
            decode, pixels = lane.waiting.popleft()
            pixels.set_running_or_notify_cancel()
            return decode, pixels

    def _open_lane(self) -> Lane | None:
        return next((lane for lane in self._lanes if lane.waiting and lane.room > 0), None)
