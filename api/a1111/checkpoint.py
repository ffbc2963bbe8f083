"""The loaded model as AUTOMATIC1111's API names a file of weights."""

from dataclasses import dataclass

from runtime.plan.model import Model


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The loaded model as the web UI names a file: its name, and the hash of its source."""

    name: str
    sha256: str | None

    @classmethod
    def of(cls, model: Model) -> "Checkpoint":
        """The loaded model."""
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
