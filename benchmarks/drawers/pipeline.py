"""diffusers' own pipeline as a contestant: eager, or with its denoiser compiled."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.diffusers_pipeline import call, fastest_threads, opened
from benchmarks.drawers.answers import answer_requests


def open_drawer(options: dict[str, Any]) -> tuple[Callable[[Any], Any], Any]:
    """Pipeline of `options["source"]`, with `options["compiled"]` through `torch.compile`.

    It has `options["threads"]`, or where that is None the number that draws `options["tried"]`
    fastest.
    """
    pipeline = opened(Path(options["source"]), compiled=options["compiled"])
    tried = {}
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    else:
        tried = fastest_threads(pipeline, options["tried"])
    clock = _Clock(pipeline)

    def draw(body: dict[str, Any]) -> dict[str, float]:
        clock.reset()
        began = time.perf_counter()
        (image,) = call(pipeline, [body], callback=clock.stepped)
        drawn = time.perf_counter()
        image.save(body["picture"])
        ended = time.perf_counter()
        stages = {
            "total": drawn - began,
            "text": clock.spent["text"],
            "step": clock.step(),
            "VAE": clock.spent["VAE"],
            "save": ended - drawn,
        }
        return {name: 1e3 * seconds for name, seconds in stages.items()}

    return draw, {"threads": torch.get_num_threads(), "seconds_by_threads": tried}


class _Clock:
    """Seconds in a pipeline's text encoders and VAE, and the ends of its steps."""

    def __init__(self, pipeline: Any) -> None:
        self.reset()
        pipeline.encode_prompt = self._timed("text", pipeline.encode_prompt)
        pipeline.vae.decode = self._timed("VAE", pipeline.vae.decode)

    def reset(self) -> None:
        self.spent = {"text": 0.0, "VAE": 0.0}
        self._ends: list[float] = []

    def stepped(self) -> None:
        self._ends.append(time.perf_counter())

    def step(self) -> float:
        """Median of the steps but the first; of one step alone, 0."""
        gaps = [after - before for before, after in zip(self._ends, self._ends[1:], strict=False)]
        return median(gaps) if gaps else 0.0

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*values: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*values, **named)
            finally:
                self.spent[name] += time.perf_counter() - began

        return timed


if __name__ == "__main__":
    answer_requests(open_drawer)
