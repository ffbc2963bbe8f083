"""The served models as AUTOMATIC1111's API names files of weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.plan.model import Model

CHECKPOINT = "sd_model_checkpoint"
"""The setting that names a model."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as the web UI names a file: its name, and the hash of its source."""

    name: str
    sha256: str | None

    @classmethod
    def of(cls, model: Model) -> "Checkpoint":
        """A model that is served."""
        return cls(model.name, model.manifest.source.sha256 or None)

    @property
    def title(self) -> str:
        """The name in lists of models, by which clients choose one."""
        return f"{self.name} [{self.short_hash}]" if self.short_hash else self.name

    @property
    def short_hash(self) -> str | None:
        """The first digits of the hash; None where the package does not tell it."""
        return self.sha256 and self.sha256[:10]

    @property
    def names(self) -> tuple[str, ...]:
        """All that a client may call it."""
        return tuple(filter(None, (self.title, self.name, self.short_hash, self.sha256)))


def named_in(settings: object, checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    """The model that settings name; None where they name none, or none of these."""
    name = settings.get(CHECKPOINT) if isinstance(settings, Mapping) else None
    return next((each for each in checkpoints if name and name in each.names), None)


def checkpoint_rule(checkpoints: Sequence[Checkpoint]) -> Mapping[str, object]:
    """The JSON Schema of the setting."""
    titles = ", ".join(each.title for each in checkpoints)
    refusal = f"the server draws with one model, {titles}"
    if len(checkpoints) > 1:
        refusal = f"is not served here; these are: {titles}"
    names = [name for each in checkpoints for name in each.names]
    return {"enum": [*names, "", None], "x-refusal": refusal}
