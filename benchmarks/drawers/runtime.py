"""Calotype's runtime as a contestant, in one process with no server and no database."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.drawers.answers import answer_requests
from benchmarks.pictures import draw_into_file, opened_generator


def open_drawer(options: dict[str, Any]) -> tuple[Callable[[Any], Any], Any]:
    """Generator of package `options["model"]` in `options["engines"]`, on `options["backend"]`."""
    generator, opened = opened_generator(
        Path(options["engines"]), options["model"], options["backend"], captures=True
    )

    thread = ThreadPoolExecutor(1, "previews")

    def draw(body: dict[str, Any]) -> dict[str, float]:
        picture = Path(body.pop("picture"))
        return draw_into_file(generator, body, thread, picture)

    return draw, opened


if __name__ == "__main__":
    answer_requests(open_drawer)
