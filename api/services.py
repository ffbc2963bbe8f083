"""What the routes work with: put together once when the server starts, handed to every request."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from fastapi import Depends, Request

from api.metrics import Metrics
from runtime.jobs.facts import EngineFacts, WorkerFacts
from runtime.jobs.protocol import Broker
from runtime.plan.model import Model


class Workers(Protocol):
    """What the API asks of the supervisor."""

    @property
    def workers(self) -> Sequence[WorkerFacts]:
        """Every worker process."""
        ...

    @property
    def engine(self) -> EngineFacts | None:
        """What the pictures are made with; None until a worker was ready."""
        ...

    @property
    def ready(self) -> bool:
        """Whether a worker has loaded the model and run one step."""
        ...


class PictureFiles(Protocol):
    """What the API asks of the gallery. Both look at the disk: call them in a thread."""

    def picture_path(self, filename: str) -> Path | None:
        """The picture's file; None where there is none."""
        ...

    def thumbnail_path(self, filename: str) -> Path | None:
        """Its thumbnail's file; None where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """The rooms behind the API."""

    model: Model
    broker: Broker
    workers: Workers
    files: PictureFiles
    metrics: Metrics


def services(request: Request) -> Services:
    """The app's services, for a route that asks for `Rooms`."""
    found: Services = request.app.state.services
    return found


Rooms = Annotated[Services, Depends(services)]
