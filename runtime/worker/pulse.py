"""The heartbeats of a worker, which say that the process is alive and how its device is doing."""

import os
import threading
from collections.abc import Mapping

from runtime.backends.protocol import OnDevice
from runtime.errors import DeviceError
from runtime.wire.link import WorkerLink
from runtime.wire.messages import Heartbeat, LinkError

BEATS_PER_LEASE = 4

EXIT_SERVER_GONE = 3


class Pulse:
    """Sends heartbeats to the server on a thread of its own."""

    def __init__(self, link: WorkerLink, lease_seconds: float) -> None:
        """Start the thread, which sends BEATS_PER_LEASE heartbeats in `lease_seconds`."""
        self._link = link
        self._seconds = lease_seconds / BEATS_PER_LEASE
        self.device: OnDevice | None = None
        """The device whose state is reported; None until the backend is open, and for a CPU."""
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def _beat(self) -> None:
        pause = threading.Event()
        try:
            while not pause.wait(self._seconds):
                shortfalls = list(self.device.shortfalls) if self.device else []
                self._link.send(Heartbeat(self._device_memory(), shortfalls))
        except LinkError:
            os._exit(EXIT_SERVER_GONE)

    def _device_memory(self) -> Mapping[str, int]:
        try:
            return self.device.device_memory() if self.device else {}
        except DeviceError:
            return {}  # The loop's thread meets the same error by itself.
