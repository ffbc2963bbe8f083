"""Services behind the routes: put together once at the start and handed to every request."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from fastapi import Depends, Request

from api.callers import Callers
from api.dialects import Dialects
from api.keys import KeyFile
from api.metrics import Metrics
from runtime.jobs.facts import EngineFacts, WorkerFacts
from runtime.jobs.protocol import Broker
from runtime.plan.model import Model
from runtime.plan.models import Models


class Workers(Protocol):
    """The workers, as the API reads them."""

    @property
    def workers(self) -> Sequence[WorkerFacts]:
        """Every worker process."""
        ...

    @property
    def engine(self) -> EngineFacts | None:
        """The engine of the default model; None until a worker was ready."""
        ...

    def engine_of(self, model: str) -> EngineFacts | None:
        """The engine of a model; None until a worker has loaded it."""
        ...

    @property
    def ready(self) -> bool:
        """True while a worker takes jobs: its model is loaded and one step was run."""
        ...


class PictureFiles(Protocol):
    """The gallery, as the API reads it. Both methods look at the disk: call them in a thread."""

    def picture_path(self, filename: str) -> Path | None:
        """The picture's file; None where there is none."""
        ...

    def thumbnail_path(self, filename: str) -> Path | None:
        """Its thumbnail's file; None where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """The rooms behind the API."""

    models: Models
    broker: Broker
    workers: Workers
    files: PictureFiles
    metrics: Metrics
    callers: Callers
    keys: KeyFile | None = None
    """Keys of callers; None where nobody needs one."""
    dialects: Dialects = Dialects()  # noqa: RUF009  frozen
    page: bool = True
    """True where `/` is a page to draw by."""

    @property
    def model(self) -> Model:
        """The default model."""
        return self.models.default


def services(request: Request) -> Services:
    """The app's services, for a route that asks for `Rooms`."""
    found: Services = request.app.state.services
    return found


Rooms = Annotated[Services, Depends(services)]
