"""The logs of the server and of its worker: one line on standard error for each record.

Every file logs by the standard library's loggers and gives fields as `extra`, under names that a
LogRecord does not have itself (`filename`, `name`, `process`); structlog makes lines of them here
alone.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import TYPE_CHECKING, Any, Literal, get_args

from runtime.errors import in_one_line
from runtime.stderr import STDERR, StderrLines

if TYPE_CHECKING:
    from structlog.typing import Processor

LogFormat = Literal["auto", "console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)
LEVELS: tuple[LogLevel, ...] = get_args(LogLevel)

Process = Literal["server", "worker"]

_ROOMS = ("api", "runtime")
_RENAMED = {"uvicorn.error": "uvicorn"}
"""Loggers whose own names mislead: of uvicorn's two, this has every line but the requests'."""

_JOB: ContextVar[str] = ContextVar("job", default="")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How both processes log."""

    format: LogFormat = "auto"
    """`auto`: for people on a terminal, JSON elsewhere."""
    level: LogLevel = "info"
    """The least level of our own lines; libraries' are shown from `info` on at the least, since
    their details may quote what a request holds.
    """


@contextmanager
def about_job(job_id: str) -> Iterator[None]:
    """Lines of this thread or task are about this job within the block."""
    token = _JOB.set(job_id)
    try:
        yield
    finally:
        _JOB.reset(token)


@contextmanager
def logging_to_stderr(options: LogOptions, process: Process) -> Iterator[None]:
    """Log within the block. The server's lines are written on a thread of their own, so that its
    event loop waits for nobody; the worker's at once, so that a crash takes none with it.
    """
    handler: logging.Handler = StderrLines()
    listener = None
    if process == "server":
        lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        listener = QueueListener(lines, handler)
        handler = QueueHandler(lines)
        listener.start()
    handler.setFormatter(_formatter(options, process))
    try:
        with _installed(handler, getattr(logging, options.level.upper())):
            yield
    finally:
        if listener is not None:
            listener.stop()


@contextmanager
def _installed(handler: logging.Handler, level: int) -> Iterator[None]:
    """All loggers write to this handler, warnings and the ends of threads included."""
    root, hook = logging.getLogger(), threading.excepthook
    levels = {root: max(level, logging.INFO), **{logging.getLogger(room): level for room in _ROOMS}}
    before = {each: each.level for each in levels}
    for each, least in levels.items():
        each.setLevel(least)
    root.addHandler(handler)
    logging.captureWarnings(True)
    threading.excepthook = _thread_ended
    try:
        yield
    finally:
        threading.excepthook = hook
        logging.captureWarnings(False)
        root.removeHandler(handler)
        for each, least in before.items():
            each.setLevel(least)


def _thread_ended(failure: threading.ExceptHookArgs) -> None:
    name = failure.thread.name if failure.thread else "a thread"
    logger.critical("%s has ended: an error of ours", name, exc_info=failure.exc_value)


def _formatter(options: LogOptions, process: Process) -> logging.Formatter:
    """A formatter of lines in the wished form."""
    # It imports a dozen modules: nobody who only reads settings waits for them.
    from structlog.dev import ConsoleRenderer, plain_traceback
    from structlog.processors import JSONRenderer, format_exc_info
    from structlog.stdlib import ExtraAdder, ProcessorFormatter

    terminal = os.isatty(STDERR)
    last: list[Processor]
    if options.format == "json" or (options.format == "auto" and not terminal):
        last = [format_exc_info, JSONRenderer(default=str)]
    else:
        last = [
            _for_people,
            # The default would show the variables of a traceback, secrets and prompts included.
            ConsoleRenderer(
                colors=terminal, timestamp_key="time", exception_formatter=plain_traceback
            ),
        ]
    return ProcessorFormatter(
        foreign_pre_chain=[ExtraAdder(), _head(process)],
        processors=[ProcessorFormatter.remove_processors_meta, *last],
    )


Fields = MutableMapping[str, Any]


def _head(process: Process) -> Callable[[Any, str, Fields], Mapping[str, Any]]:
    """Puts what every line has before the line's own fields."""
    source = {"process": process, "pid": os.getpid()}

    def head(_logger: Any, _method: str, fields: Fields) -> Mapping[str, Any]:
        record: logging.LogRecord = fields["_record"]
        fields.pop("color_message", None)  # uvicorn's event once more, with colours.
        job_id = _JOB.get()
        return {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": _RENAMED.get(record.name, record.name),
            "event": fields.pop("event"),
            **source,
            **({"job_id": job_id} if job_id else {}),
            **fields,
        }

    return head


def _for_people(_logger: Any, _method: str, fields: Fields) -> Fields:
    """Nothing that a terminal would obey, and no id of a process."""
    return {
        name: in_one_line(value) if isinstance(value, str) else value
        for name, value in fields.items()
        if name != "pid"
    }


def rfc3339(seconds: float) -> str:
    """A time of the epoch in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
