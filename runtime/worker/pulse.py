"""The heartbeats of a worker, which say that the process is alive and how its device is doing.

They end with the process when one of its threads does not come out of a stage.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping

from runtime.backends.protocol import OnDevice
from runtime.errors import DeviceError
from runtime.wire.link import WorkerLink
from runtime.wire.messages import Broken, Heartbeat, LinkError
from runtime.worker.watch import Watch

BEATS_PER_LEASE = 4

EXIT_SERVER_GONE = 3
EXIT_STALLED = 4

logger = logging.getLogger(__name__)


class Pulse:
    """Sends heartbeats to the server on a thread of its own."""

    def __init__(
        self, link: WorkerLink, lease_seconds: float, watch: Watch, on_trial: Callable[[], bool]
    ) -> None:
        """Start the thread, which sends BEATS_PER_LEASE heartbeats in `lease_seconds`. `on_trial`
        is true while a CUDA graph is launched for the first time, which is then what hangs.
        """
        self._link = link
        self._watch = watch
        self._on_trial = on_trial
        self._seconds = lease_seconds / BEATS_PER_LEASE
        self.device: OnDevice | None = None
        """The device whose state is reported; None until the backend is open, and for a CPU."""
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def _beat(self) -> None:
        pause = threading.Event()
        try:
            while not pause.wait(self._seconds):
                if late := self._watch.overdue():
                    self._give_up(late)
                shortfalls = list(self.device.shortfalls) if self.device else []
                self._link.send(Heartbeat(self._device_memory(), shortfalls))
        except LinkError:
            os._exit(EXIT_SERVER_GONE)

    def _give_up(self, late: str) -> None:
        logger.error("the worker has to exit: %s", late)
        self._link.send(Broken(late, lasting=False, of_graph=self._on_trial()))
        os._exit(EXIT_STALLED)

    def _device_memory(self) -> Mapping[str, int]:
        try:
            return self.device.device_memory() if self.device else {}
        except DeviceError:
            return {}  # The loop's thread meets the same error by itself.
