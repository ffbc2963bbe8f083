"""optimum-onnx's pipeline on ONNX Runtime's CPU provider as a contestant.

It is run by the Python of an environment that has optimum-onnx, which wants older libraries than
the build stage's.
"""

import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.diffusers_pipeline import call
from benchmarks.drawers.answers import answer_requests


def open_drawer(options: dict[str, Any]) -> tuple[Callable[[Any], Any], Any]:
    """Pipeline of the diffusers folder `options["source"]`, exported to `options["exported"]`."""
    import onnxruntime

    # Never in the environment of the types' checker.
    from optimum.onnxruntime import (  # type: ignore[import-not-found]
        ORTStableDiffusionXLPipeline,
    )

    exported = Path(options["exported"])
    if not exported.is_dir():
        made = ORTStableDiffusionXLPipeline.from_pretrained(options["source"], export=True)
        unfinished = exported.with_name(f".{exported.name}")
        made.save_pretrained(unfinished)
        unfinished.rename(exported)
    sessions = onnxruntime.SessionOptions()
    sessions.add_session_config_entry("session.intra_op.allow_spinning", "0")
    pipeline = ORTStableDiffusionXLPipeline.from_pretrained(exported, session_options=sessions)
    pipeline.set_progress_bar_config(disable=True)

    def draw(body: dict[str, Any]) -> dict[str, float]:
        began = time.perf_counter()
        (image,) = call(pipeline, [body])
        drawn = time.perf_counter()
        image.save(body["picture"])
        return {"total": 1e3 * (drawn - began), "save": 1e3 * (time.perf_counter() - drawn)}

    names = ("onnxruntime", "optimum-onnx", "diffusers", "transformers")
    return draw, {name: version(name) for name in names}


if __name__ == "__main__":
    answer_requests(open_drawer)
