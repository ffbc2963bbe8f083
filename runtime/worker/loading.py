"""The loading of models for the tasks that want them, on a thread beside the loop.

All but `_survey` and `_open` is called on the loop's thread. One model is loaded at a time, in the
order in which they were first wanted.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from runtime.errors import CalotypeError, DeviceError, in_one_line
from runtime.wire.messages import Loaded, Message, Risk, Shelved
from runtime.worker.opening import Opened, Opener
from runtime.worker.shelf import Shelf
from runtime.worker.shelf_room import ShelfRoom
from runtime.worker.task import Task

logger = logging.getLogger(__name__)


class LoadingError(CalotypeError):
    """A model could not be loaded beside what serves."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """The room for models is known."""

    room: ShelfRoom


@dataclass(frozen=True, slots=True)
class WasOpened:
    """A model is loaded, in so many seconds."""

    opened: Opened
    seconds: float


@dataclass(frozen=True, slots=True)
class NotOpened:
    """A model could not be loaded; without a name, the room for models could not be found out."""

    model: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Freed:
    """A task has ended, so that its model may be given up."""


News = Surveyed | WasOpened | NotOpened | Freed


class Loading:
    """Loads the models that tasks wait for, and gives up others where memory wants that."""

    def __init__(
        self,
        shelf: Shelf,
        opener: Opener,
        tell: Callable[[News], None],
        say: Callable[[Message], None],
    ) -> None:
        """`tell` takes news in any thread, for the loop's; `say` sends a message to the server."""
        self._shelf = shelf
        self._opener = opener
        self._tell = tell
        self._say = say
        self._waiting: dict[str, list[Task]] = {}
        self._under_way = False
        self._seconds: dict[str, float] = {}
        self._loader = ThreadPoolExecutor(1, "loader")

    def begin(self) -> None:
        """Find out what room there is for the other models, if there are any."""
        if self._opener.options.others:
            self._loader.submit(self._survey, self._shelf.loaded[0])

    @property
    def waits(self) -> bool:
        """True while a task waits for its model."""
        return bool(self._waiting)

    def want(self, task: Task) -> None:
        """Load the task's model as soon as there is room."""
        self._waiting.setdefault(task.model, []).append(task)
        self._proceed()

    def hear(self, news: News) -> Sequence[Task]:
        """Go on after news; returns the tasks that need not wait any more: their model is loaded,
        or cannot be.
        """
        freed: Sequence[Task] = ()
        match news:
            case Surveyed(room):
                self._shelf.room = room
                self._say_shelved()
            case WasOpened(opened, seconds):
                self._under_way = False
                self._shelf.put(opened)
                self._seconds[opened.name] = seconds
                self._say(Loaded(opened.name, seconds, asdict(opened.ready)))
                self._say_shelved()
                freed = self._waiting.pop(opened.name, ())
            case NotOpened(model):
                self._under_way = False
                self._say_shelved()
                freed = self._waiting.pop(model, ())
            case Freed():
                pass
        self._proceed()
        return [task for task in freed if not task.canceled]

    def _proceed(self) -> None:
        """Begin to load the model that has been wanted longest, if there is room."""
        self._waiting = {
            model: left
            for model, tasks in self._waiting.items()
            if (left := [task for task in tasks if not task.canceled])
        }
        if self._under_way or not self._waiting:
            return
        model, tasks = next(iter(self._waiting.items()))
        given_up = self._shelf.make_room(model)
        if given_up is None:
            return
        self._under_way = True
        if given_up:
            self._say_shelved()
        # What a loading takes with it is the fault of the job that it is for.
        self._say(Risk(tasks[0].job_id, over=False))
        self._loader.submit(self._open, model, list(given_up))

    def _survey(self, first: Opened) -> None:
        try:
            self._tell(Surveyed(self._opener.room(first)))
        except Exception as error:
            self._tell(NotOpened("", error))

    def _open(self, model: str, given_up: list[Opened]) -> None:
        began = time.perf_counter()
        try:
            while given_up:
                given_up.pop().generator.close()
            opened = self._opener.open(model, awaited=True)
        except DeviceError as error:
            self._tell(NotOpened(model, error))
        except Exception as error:
            words = in_one_line(error) or type(error).__name__
            logger.exception("the model %s could not be loaded", model)
            self._tell(NotOpened(model, LoadingError(f"the model {model}: {words}")))
        else:
            self._tell(WasOpened(opened, time.perf_counter() - began))

    def _say_shelved(self) -> None:
        loaded = [opened.name for opened in self._shelf.loaded]
        beside, evicted = list(self._shelf.beside), self._shelf.evictions()
        self._say(Shelved(loaded, beside, evicted, dict(self._seconds)))
