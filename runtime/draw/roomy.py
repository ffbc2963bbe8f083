"""A denoiser and a decoder whose calls keep to the room that there is.

A call of several samples that does not fit is made in parts, as is one that found no memory. What a
library keeps of its calls is given back where it is more than the usual picture takes, or more than
the networks may keep together: the memory of usual pictures stays, since to have it again takes
time.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from runtime.backends.low_rank import Weights
from runtime.backends.protocol import Array, Denoiser, Engine, GivesBack, Reading, Row
from runtime.draw.batch import Fitting
from runtime.draw.decode import NetworkDecoder, Pixels
from runtime.draw.decode_room import DecodeRoom
from runtime.draw.room import Room
from runtime.errors import BackendError, DeviceError, lacks_memory
from runtime.package.manifest import Manifest
from runtime.plan.call_room import CallRoom

DENOISER, DECODER = "denoiser", "vae_decoder"


class RoomyDenoiser:
    """A Denoiser that takes as much memory as there is room for. For one thread."""

    def __init__(self, denoiser: Denoiser, needs: CallRoom, room: Room, usual: int) -> None:
        """`usual` is the memory of the usual picture's calls, in bytes."""
        self._denoiser = denoiser
        self._room = room
        self._usual = usual
        self._sizes: dict[int, tuple[int, int]] = {}
        self._wanted = lru_cache(maxsize=64)(needs.wanted)
        self._called = False

    def admit(
        self, latents: NDArray[np.float32], evaluations: Sequence[Mapping[str, Array]]
    ) -> int:
        """As the denoiser's own."""
        slot = self._denoiser.admit(latents, evaluations)
        *_, height, width = latents.shape
        self._sizes[slot] = height, width
        return slot

    def advance(self, rows: Sequence[Row]) -> None:
        """As the denoiser's own, in as many calls as the memory makes necessary."""
        self._called = True
        wanted = self._wanted(*self._sizes[rows[0].slot], sum(len(row.mix) for row in rows))
        if len(rows) > 1 and self._room.fitting(DENOISER, wanted) < 1:
            self._in_halves(rows)
            return
        if self._room.outgrows(DENOISER, wanted):
            _give_back(self._denoiser, DENOISER, self._room)
        try:
            with self._room.taken(DENOISER, wanted):
                self._denoiser.advance(rows)
        except BackendError as error:
            if isinstance(error, DeviceError) or not lacks_memory(str(error)):
                raise
            self._again(rows, wanted, str(error))

    def close(self) -> None:
        """As the denoiser's own."""
        self._denoiser.close()

    @property
    def keeps(self) -> bool:
        """True where calls were made since the last `rest`, whose memory may be kept."""
        return self._called and isinstance(self._denoiser, GivesBack)

    def rest(self) -> None:
        """Give back what is kept, between samples. Raises BackendError."""
        self._called = False
        _give_back(self._denoiser, DENOISER, self._room)

    def replace_weights(self, weights: Weights) -> None:
        """As the denoiser's own."""
        self._denoiser.replace_weights(weights)

    def latents(self, slot: int) -> Reading:
        """As the denoiser's own."""
        return self._denoiser.latents(slot)

    def predicted(self, slot: int) -> Reading:
        """As the denoiser's own."""
        return self._denoiser.predicted(slot)

    def release(self, slot: int) -> None:
        """As the denoiser's own; behind the last sample, what was kept goes back."""
        self._denoiser.release(slot)
        del self._sizes[slot]
        if not self._sizes and self._room.keeps_too_much(DENOISER, self._usual):
            _give_back(self._denoiser, DENOISER, self._room)

    def _again(self, rows: Sequence[Row], wanted: int, words: str) -> None:
        """Make a call that found no memory in halves; that of one sample once more, alone."""
        _give_back(self._denoiser, DENOISER, self._room)
        if len(rows) > 1:
            self._room.lacked(DENOISER, wanted, words)
            self._in_halves(rows)
            return
        with self._room.alone():
            self._denoiser.advance(rows)

    def _in_halves(self, rows: Sequence[Row]) -> None:
        half = len(rows) // 2
        self.advance(rows[:half])
        self.advance(rows[half:])


class RoomyDecoder:
    """The VAE's decoder, whose pictures wait for the room that they take. For one thread."""

    def __init__(self, engine: Engine, needs: DecodeRoom, room: Room) -> None:
        """`engine` takes `latents` and gives `image`, uint8 `[B, H, W, 3]`."""
        self._engine = engine
        self._decoder = NetworkDecoder(engine)
        self._needs = needs
        self._room = room
        self._usual = needs.wanted(needs.usual, needs.usual)

    def decode(self, latents: NDArray[np.float32]) -> Pixels:
        """Pixels `[H, W, 3]`."""
        *_, height, width = (side * self._needs.scale for side in latents.shape)
        wanted = self._needs.wanted(width, height)
        if self._room.outgrows(DECODER, wanted):
            _give_back(self._engine, DECODER, self._room)
        with self._room.taken(DECODER, wanted):
            pixels = self._decoder.decode(latents)
        if self._room.keeps_too_much(DECODER, self._usual):
            _give_back(self._engine, DECODER, self._room)
        return pixels


def usual_call(needs: CallRoom, manifest: Manifest) -> int:
    """The memory of a call for one guided picture of the usual size."""
    scale, usual = manifest.latents.scale_factor, manifest.defaults
    return needs.wanted(usual.height // scale, usual.width // scale, 2)


def evaluations_that_fit(needs: CallRoom, room: Room) -> Fitting:
    """The function that tells how many evaluations of a kind of call fit into one."""
    return lambda kind: room.fitting(DENOISER, needs.wanted(kind.height, kind.width, 1))


def _give_back(network: object, user: str, room: Room) -> None:
    if isinstance(network, GivesBack):
        network.give_back()
        room.given_back(user)
