"""Shows a build's steps and downloads: a bar on a terminal, plain lines in a log."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Self, TextIO

from tqdm import tqdm


class Progress:
    """The steps of a build as they are begun."""

    def __init__(self, total: int, *, shown: bool = True, stream: TextIO | None = None) -> None:
        self._total = total
        self._stream = stream or sys.stderr
        self._shown = shown
        self._begun = 0
        self._bar = tqdm(
            total=total,
            unit="step",
            file=self._stream,
            disable=not shown or not self._stream.isatty(),
            bar_format="{desc:<40} {bar} {n_fmt}/{total_fmt} [{elapsed}]",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step: named when it begins, counted when it ends."""
        self._begun += 1
        self._bar.set_description_str(title)
        if self._bar.disable and self._shown:
            print(f"[{self._begun}/{self._total}] {title}", file=self._stream, flush=True)
        yield
        self._bar.update()

    @contextlib.contextmanager
    def bytes(self, total: int) -> Iterator[Callable[[int], object]]:
        """A second bar under the first, for a copy of so many bytes."""
        with tqdm(
            total=total,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            leave=False,
            file=self._stream,
            disable=self._bar.disable,
        ) as bar:
            yield bar.update


class Phases:
    """Shows the phases of one piece of work, which may run one inside another: a bar shows the
    phase of the latest report, and a log has a line for the first report of each phase."""

    def __init__(self, title: str, *, shown: bool, stream: TextIO | None = None) -> None:
        out = stream or sys.stderr
        self._title = title
        self._stream = out
        self._shown = shown
        self._heard: set[str] = set()
        self._bar = tqdm(
            total=1,
            file=out,
            leave=False,
            disable=not shown or not out.isatty(),
            bar_format="{desc:<60} {bar} {n_fmt}/{total_fmt} [{elapsed}]",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, phase: str, step: int, steps: int) -> None:
        """A phase is at `step` of `steps`."""
        if self._bar.disable:
            if self._shown and phase not in self._heard:
                print(f"{self._title}: {phase.lower()}", file=self._stream, flush=True)
            self._heard.add(phase)
            return
        self._bar.set_description_str(f"{self._title}: {phase.lower()}", refresh=False)
        self._bar.total, self._bar.n = steps, step
        self._bar.refresh()


class Transfer:
    """Shows a download; the bar of a resumed download begins at the bytes that are there."""

    def __init__(self, title: str, *, shown: bool, stream: TextIO | None = None) -> None:
        self._title = title
        self._stream = stream or sys.stderr
        self._shown = shown
        self._bar = tqdm(
            desc=title,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            file=self._stream,
            disable=not shown or not self._stream.isatty(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def begin(self, done: int, total: int | None) -> None:
        """Begin with the bytes that are there already, and the total; None for an unknown total."""
        if self._bar.disable:
            if self._shown:
                size = "size unknown" if total is None else f"{done:,} of {total:,} bytes are here"
                print(f"downloading {self._title} ({size})", file=self._stream, flush=True)
            return
        self._bar.reset(total)
        self._bar.update(done)

    def advance(self, count: int) -> None:
        """Count more bytes."""
        self._bar.update(count)
