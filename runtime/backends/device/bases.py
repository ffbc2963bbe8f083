"""The package's own weights that stay on the device, for changes of LoRAs that upload none of them.

They take memory that can be done without: as much as runs leave by the estimate, and where memory
falls short all the same they are given back for good. A weight that has no room here is uploaded
at each change.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from runtime.backends.device.cuda import DeviceMemory
from runtime.backends.device.device import Device
from runtime.backends.device.places import offsets
from runtime.backends.low_rank import Weights, base_of
from runtime.backends.protocol import SPARE


class KeptBases:
    """The package's own weights of one engine that are on the device beside the engine.

    Memory is taken and read by the engine's thread, and given back on any.
    """

    def __init__(self, device: Device, role: str) -> None:
        """None is there yet."""
        self._device = device
        self._role = role
        self._memory: list[DeviceMemory] = []
        self._places: dict[str, int] = {}
        self._given_up = False
        self._lock = threading.Lock()
        self._forget = device.cuda.on_shortage(self._release)

    def __contains__(self, name: str) -> bool:
        """True for a weight that is there now."""
        return name in self._places

    @contextmanager
    def held(self) -> Iterator[Mapping[str, int]]:
        """The addresses of the weights that are there, by name; they stay during the block, by the
        end of which the device has read them.
        """
        with self._lock:
            yield self._places

    def room(self, weights: Weights) -> dict[str, int]:
        """Addresses for the bases of as many of `weights` as there is room for, by name, within a
        block of `held`. Each is to be written, and then told by `add`.
        """
        places, _ = offsets(weights)
        room = self._device.cuda.memory()[0] - self._device.left_free
        fitting = {
            name: weight
            for name, weight in weights.items()
            if not self._given_up and places[name] + base_of(weight).size_bytes <= room
        }
        _, size = offsets(fitting)
        memory = self._device.cuda.try_allocate(size, SPARE) if fitting else None
        if memory is not None:
            self._memory.append(memory)
        if memory is None or len(fitting) < len(weights):
            self._tell()
        return {name: memory.address + places[name] for name in fitting} if memory else {}

    def add(self, name: str, address: int) -> None:
        """From now on the base of this weight lies at the address."""
        self._places[name] = address

    def close(self) -> None:
        """Give the memory back; nothing is kept from now on."""
        self._forget()
        with self._lock:
            self._free()

    def _tell(self) -> None:
        self._device.shortfalls.add(
            f"{self._role}: changes of LoRAs upload weights of the package anew, since the GPU's "
            "memory has no room to keep a copy of all of them beside what runs take"
        )

    def _release(self) -> bool:
        """Give the memory back for good, since others are in want of it."""
        with self._lock:
            if not self._memory:
                return False
            self._given_up = True
            self._tell()
            self._free()
            return True

    def _free(self) -> None:
        self._places.clear()
        while self._memory:
            self._device.cuda.free(self._memory.pop())
