"""All that AUTOMATIC1111's API holds between two requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from api.a1111.checkpoint import Checkpoint, named_in
from api.a1111.drawing import Drawings
from api.a1111.txt2img import Txt2Img
from runtime.plan.models import Models


@dataclass(frozen=True, slots=True)
class Window:
    """A model in that API's words."""

    txt2img: Txt2Img
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Desk:
    """The models in that API's words, and the requests that are being waited for."""

    windows: Sequence[Window]
    drawings: Drawings = field(default_factory=Drawings)
    chosen: dict[str, Window] = field(default_factory=dict)
    """By caller, the model that its settings have; the first where it has set none."""

    @classmethod
    def of(cls, models: Models) -> "Desk":
        """A desk for these models, with nothing being drawn."""
        checkpoints = [Checkpoint.of(model) for model in models]
        pairs = zip(models, checkpoints, strict=True)
        return cls([Window(Txt2Img.of(model, checkpoints), each) for model, each in pairs])

    @property
    def checkpoints(self) -> Sequence[Checkpoint]:
        """All models, the default first."""
        return [window.checkpoint for window in self.windows]

    @property
    def default(self) -> Window:
        """The default model."""
        return self.windows[0]

    def window(self, owner: str) -> Window:
        """The model of a caller's settings."""
        return self.chosen.get(owner, self.default)

    def window_of(self, owner: str, body: object) -> Window:
        """The model of a txt2img body: the one of its own settings, or of the caller's."""
        settings = body.get("override_settings") if isinstance(body, Mapping) else None
        return self._named(settings) or self.window(owner)

    def set(self, owner: str, settings: object) -> None:
        """Keep the model that a caller's settings name. Raises RequestError for settings that are
        not so already.
        """
        self.window(owner).txt2img.check_settings(settings)
        if window := self._named(settings):
            self.chosen[owner] = window

    def _named(self, settings: object) -> Window | None:
        named = named_in(settings, self.checkpoints)
        return next((each for each in self.windows if each.checkpoint == named), None)
