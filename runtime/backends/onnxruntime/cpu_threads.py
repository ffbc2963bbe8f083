"""The number of threads for a network of many short calls, by the times of the calls themselves.

Threads that divide an operator wait for one another at its end, so the short operators of a small
network or picture are run by one thread nearly as fast as by all. The cores that are then free draw
previews, decode pictures and answer requests meanwhile. So half as many threads are tried for each
kind of call, and half as many again, as long as that costs little.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from statistics import median
from time import perf_counter

from runtime.backends.low_rank import Weights
from runtime.backends.protocol import Array, Engine, GivesBack, Started
from runtime.errors import BackendError

TRIES = 8
"""The calls of each number of threads, in turns with those of twice as many, that are compared."""
PRICE = 1.15
"""The time of half as many threads, over that of all, that is paid for the cores set free."""
LONGEST = 0.1
"""Seconds. Longer calls have operators that divide well, and weights that are better held once."""
KINDS = 512
"""The most kinds that are remembered; the one that came first is forgotten."""
STALE = 2000
"""The calls of a kind after which its number of threads is tried anew: a machine's load changes."""

Shapes = tuple[tuple[int, ...], ...]
"""The kind of a call: the shapes of its inputs."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Trial:
    """The trial of one kind of call."""

    threads: int
    """The best so far."""
    fewer: int
    """On trial beside the best; 0 where the trial is over."""
    begun: bool = False
    """True once there is an engine for fewer threads: calls before that are of another time."""
    taken: dict[int, list[float]] = field(default_factory=dict)
    """Seconds of calls by number of threads."""
    calls: int = 0
    least: float = inf
    """Seconds of the shortest call: another program only ever makes calls longer."""

    @property
    def due(self) -> bool:
        """True where fewer threads are worth an engine: not for the few calls of a server's start,
        nor for long ones.
        """
        return bool(self.fewer) and self.calls >= TRIES and self.least <= LONGEST


class ThreadChoice:
    """The number of threads for the next call of each kind."""

    def __init__(self, most: int) -> None:
        """`most`: the number of threads that every trial begins with."""
        self._most = most
        self._trials: dict[Shapes, _Trial] = {}

    def wanted(self, kind: Shapes) -> int:
        """The number of threads to be tried for this kind of call; 0 for none."""
        trial = self._trial(kind)
        return trial.fewer if trial.due else 0

    def threads(self, kind: Shapes, able: Collection[int]) -> int:
        """The number of threads for the next call, among those that there are engines for."""
        trial = self._trial(kind)
        trial.begun = trial.due and trial.fewer in able
        if not trial.begun:
            return trial.threads
        pair = trial.threads, trial.fewer
        return min(pair, key=lambda threads: len(trial.taken.get(threads, ())))

    def took(self, kind: Shapes, threads: int, seconds: float) -> None:
        """A call took so long with this number of threads."""
        trial = self._trial(kind)
        trial.calls += 1
        trial.least = min(trial.least, seconds)
        if trial.calls == STALE:
            del self._trials[kind]
        if trial.begun:
            trial.taken.setdefault(threads, []).append(seconds)
            _judge(trial)

    def _trial(self, kind: Shapes) -> _Trial:
        if kind not in self._trials:
            if len(self._trials) == KINDS:
                del self._trials[next(iter(self._trials))]
            self._trials[kind] = _Trial(self._most, self._most // 2)
        return self._trials[kind]


def _judge(trial: _Trial) -> None:
    """Go on to half as many threads, or end the trial, once both numbers have been tried enough."""
    of_all, of_fewer = (trial.taken.get(each, []) for each in (trial.threads, trial.fewer))
    if min(len(of_all), len(of_fewer)) < TRIES:
        return
    if median(of_fewer) > PRICE * median(of_all):
        trial.fewer = 0
    else:
        trial.threads, trial.fewer = trial.fewer, trial.fewer // 2
        trial.taken.clear()


class ChoosingEngine:
    """An engine whose calls have as many threads as the times of earlier calls suggest.

    The number of threads changes no bit of an answer, as long as the package's own weights are in
    place: `replace_weights` keeps to all threads, since products of matrices that are not prepacked
    are rounded differently for every division among threads.
    """

    def __init__(self, open_engine: Callable[[int], Engine], most: int) -> None:
        """`open_engine` opens an engine of so many threads: that of the most at once, others once
        they are wanted, beside the calls. Raises BackendError.
        """
        self._open = open_engine
        self._most = most
        self._engines = {most: open_engine(most)}
        self._opening: dict[int, Future[Engine]] = {}
        self._beside = ThreadPoolExecutor(1, "engine-opener")
        self._choice = ThreadChoice(most)
        self._replaced = False

    def start(self, inputs: Mapping[str, Array]) -> Started:
        """Run at once. Raises BackendError."""
        outputs = self.run(inputs)
        return lambda: outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Named arrays in, named arrays out. Raises BackendError."""
        if self._replaced:
            return self._engines[self._most].run(inputs)
        kind = tuple(array.shape for array in inputs.values())
        threads = self._choice.threads(kind, self._engines)
        began = perf_counter()
        outputs = self._engines[threads].run(inputs)
        self._choice.took(kind, threads, perf_counter() - began)
        self._prepare(self._choice.wanted(kind))
        return outputs

    def replace_weights(self, weights: Weights) -> None:
        """As `Engine.replace_weights`. Raises BackendError."""
        self._engines[self._most].replace_weights(weights)
        self._replaced = bool(weights)

    def give_back(self) -> None:
        """As the engines' own. Raises BackendError."""
        for engine in self._engines.values():
            if isinstance(engine, GivesBack):
                engine.give_back()

    def close(self) -> None:
        """Give all memory back."""
        self._beside.shutdown(cancel_futures=True)
        for threads in tuple(self._opening):
            if not self._opening[threads].cancelled():
                self._take(threads)
        for engine in self._engines.values():
            engine.close()

    def _prepare(self, threads: int) -> None:
        """Open an engine of so many threads beside the calls, and take it once it is open."""
        if threads == 0 or threads in self._engines:
            return
        if threads not in self._opening:
            self._opening[threads] = self._beside.submit(self._open, threads)
        elif self._opening[threads].done():
            self._take(threads)

    def _take(self, threads: int) -> None:
        try:
            self._engines[threads] = self._opening[threads].result()
        except BackendError as error:
            # It stays among the opening ones, and is not tried again.
            logger.warning("no engine of %d threads: %s", threads, error)
