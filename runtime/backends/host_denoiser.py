"""The step graph over state in host memory: for any engine that takes and gives host arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count

import numpy as np
from numpy.typing import NDArray

from runtime.backends.low_rank import Weights
from runtime.backends.protocol import Array, Engine, GivesBack, Reading, Row
from runtime.package.step_graph import (
    COEFFICIENTS,
    EVALUATION_SAMPLE,
    GUIDANCE_RESCALE,
    HISTORY,
    LATENTS,
    MIX,
    NEXT_HISTORY,
    NEXT_LATENTS,
    NOISE,
    POSITIVE_EVALUATION,
    PREDICTED,
    REMEMBERED,
    TIMESTEP,
)


@dataclass(slots=True)
class _State:
    latents: NDArray[np.float32]
    history: NDArray[np.float32]
    evaluations: Sequence[Mapping[str, Array]]
    silence: NDArray[np.float32]
    """The noise of a row that has none."""
    predicted: NDArray[np.float32] = field(init=False)


class HostDenoiser:
    """A Denoiser whose samples' latents and history are NumPy arrays.

    While weights are replaced, each sample has a call of its own. Replaced matrices are inputs of
    the call, so the engine cannot prepack them, and a product of matrices that are not prepacked is
    rounded differently for another number of rows (ONNX Runtime's MLAS chooses the blocks in which
    it sums by all three extents): a sample's bits would depend on the other samples of the batch.
    """

    def __init__(self, engine: Engine) -> None:
        """`engine` runs the step graph."""
        self._engine = engine
        self._states: dict[int, _State] = {}
        self._apart = False
        self._slots = count()
        self._conditioned: dict[str, Array] = {}
        self._called: list[tuple[int, int]] = []

    def admit(
        self, latents: NDArray[np.float32], evaluations: Sequence[Mapping[str, Array]]
    ) -> int:
        """Take a sample in; its history starts empty."""
        slot = next(self._slots)
        history = np.zeros((1, REMEMBERED, *latents.shape[1:]), np.float32)
        self._states[slot] = _State(latents, history, evaluations, np.zeros_like(latents))
        return slot

    def advance(self, rows: Sequence[Row]) -> None:
        """Stack the samples, call the graph, and split its outputs by sample."""
        turns = [[row] for row in rows] if self._apart else [rows]
        answers = [self._answer(together) for together in turns]
        for together, outputs in zip(turns, answers, strict=True):
            self._take(together, outputs)

    def replace_weights(self, weights: Weights) -> None:
        """As `Engine.replace_weights`, from the next call on; the samples stay."""
        self._engine.replace_weights(weights)
        self._apart = bool(weights)

    def latents(self, slot: int) -> Reading:
        """The sample as it is now, `[1, C, h, w]`."""
        latents = self._states[slot].latents
        return lambda: latents

    def predicted(self, slot: int) -> Reading:
        """The picture that the last row predicted, `[1, C, h, w]`."""
        predicted = self._states[slot].predicted
        return lambda: predicted

    def give_back(self) -> None:
        """Give back what the engine kept of its largest call. Raises BackendError."""
        if isinstance(self._engine, GivesBack):
            self._engine.give_back()

    def release(self, slot: int) -> None:
        """Forget a sample."""
        del self._states[slot]
        self._conditioned, self._called = {}, []

    def close(self) -> None:
        """Give all memory back."""
        self._states.clear()
        self._engine.close()

    def _answer(self, rows: Sequence[Row]) -> Mapping[str, Array]:
        states = [self._states[row.slot] for row in rows]
        return self._engine.run({**_inputs(rows, states), **self._conditioning(rows)})

    def _take(self, rows: Sequence[Row], outputs: Mapping[str, Array]) -> None:
        for index, row in enumerate(rows):
            state = self._states[row.slot]
            state.latents = outputs[NEXT_LATENTS][index : index + 1]
            state.history = outputs[NEXT_HISTORY][index : index + 1]
            state.predicted = outputs[PREDICTED][index : index + 1]

    def _conditioning(self, rows: Sequence[Row]) -> Mapping[str, Array]:
        """The conditioning of the call's evaluations, stacked; kept for calls of the same."""
        called = [(row.slot, number) for row in rows for number in range(len(row.mix))]
        if called != self._called:
            each = [self._states[slot].evaluations[number] for slot, number in called]
            self._conditioned = {name: _stacked([one[name] for one in each]) for name in each[0]}
            self._called = called
        return self._conditioned


def row_inputs(rows: Sequence[Row]) -> dict[str, Array]:
    """The step graph's inputs that describe the rows themselves: a few numbers for each sample."""
    counts = [len(row.mix) for row in rows]
    first = [0, *accumulate(counts)]
    mix = np.zeros((len(rows), first.pop()), np.float32)
    for index, row in enumerate(rows):
        mix[index, first[index] : first[index] + counts[index]] = row.mix
    samples = [index for index, number in enumerate(counts) for _ in range(number)]
    return {
        TIMESTEP: np.array([row.timestep for row in rows], np.float32),
        COEFFICIENTS: np.array([row.coefficients for row in rows]),
        EVALUATION_SAMPLE: np.array(samples, np.int64),
        MIX: mix,
        GUIDANCE_RESCALE: np.array([row.guidance_rescale for row in rows], np.float32),
        POSITIVE_EVALUATION: np.array(first, np.int64),
    }


def _inputs(rows: Sequence[Row], states: Sequence[_State]) -> dict[str, Array]:
    inputs = row_inputs(rows)
    inputs[LATENTS] = _stacked([state.latents for state in states])
    inputs[HISTORY] = _stacked([state.history for state in states])
    pairs = zip(rows, states, strict=True)
    noises = [state.silence if row.noise is None else row.noise for row, state in pairs]
    inputs[NOISE] = _stacked(noises)
    return inputs


def _stacked(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
