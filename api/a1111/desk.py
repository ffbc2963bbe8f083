"""All that AUTOMATIC1111's API holds between two requests."""

from dataclasses import dataclass, field

from api.a1111.checkpoint import Checkpoint
from api.a1111.drawing import Drawings
from api.a1111.txt2img import Txt2Img
from runtime.plan.model import Model


@dataclass(frozen=True, slots=True)
class Desk:
    """The model in that API's words, and the requests that are being waited for."""

    txt2img: Txt2Img
    checkpoint: Checkpoint
    drawings: Drawings = field(default_factory=Drawings)

    @classmethod
    def of(cls, model: Model) -> "Desk":
        """A desk for a model, with nothing being drawn."""
        return cls(Txt2Img.of(model), Checkpoint.of(model))
