"""A picture of the demo model, small, by any backend."""

import numpy as np

from runtime.draw.generate import Generator
from scripts.gpu_report import stage

SIZE = {"width": 128, "height": 128, "steps": 8, "prompt": "a red heart", "seed": 5}


def drawn(generator: Generator, **body: object) -> np.ndarray:
    """The pixels of a picture."""
    with stage("draw pictures"):
        plan = generator.model.plan(generator.model.read({**SIZE, **body}))
        *_, last = (generator.latents(event.sample) for event in generator.steps(plan))
        return generator.decode(last)
