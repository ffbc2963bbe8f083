"""Pictures of the models that are predicted: their steps, and the extents of their graphs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SCALE = 8
"""Pixels of a latent's side."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture of a model of published size."""

    steps: int
    evaluations: int
    """Of the denoiser at each step; as many prompts are encoded."""
    gpu: str
    """Name of the GPU that tables and chart are about by default."""
    texts: Mapping[str, int] = field(default_factory=dict)
    """Extents of the axes of texts, where the graphs leave them open."""

    def extents(self, role: str, size: int) -> dict[str, int]:
        """Extents of a role's axes for one picture with sides of so many pixels."""
        side = size // SCALE
        return {
            "batch": self.evaluations if role.startswith("text_encoder") else 1,
            "evaluations": self.evaluations,
            "height": side,
            "width": side,
            **self.texts,
        }


DRAWINGS: Mapping[str, Drawing] = {
    "sdxl": Drawing(steps=30, evaluations=2, gpu="h200", texts={"tokens": 77}),
    "flux-dev": Drawing(steps=28, evaluations=1, gpu="h100"),
    "flux-schnell": Drawing(steps=4, evaluations=1, gpu="h100"),
    "chroma": Drawing(steps=28, evaluations=2, gpu="h100"),
    "zimage": Drawing(steps=8, evaluations=1, gpu="h100", texts={"tokens": 128, "caption": 128}),
}
"""By the model's name in `benchmarks.real_size`. Graphs of T5 and CLIP have one length of texts."""
