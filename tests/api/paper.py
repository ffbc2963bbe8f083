"""The OpenAPI document of a model that exists on paper, and its snapshot in `docs/`.

`python -m tests.api.paper` writes the snapshot anew.
"""

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from api.access import Access
from api.app import create_app
from api.callers import Callers
from api.dialects import Dialects
from api.metrics import Metrics
from api.services import Services
from runtime.jobs.local import LocalBroker
from runtime.jobs.supervisor import Supervisor
from runtime.package.manifest import ModelPackage
from runtime.package.shelf import InversionShelf, LoraShelf
from runtime.plan.families import family_named
from runtime.plan.model import Model
from runtime.plan.models import Models
from runtime.wire.options import WorkerOptions
from tests.places import ROOT
from tests.tiny.manifests import MANIFEST

SNAPSHOT = ROOT / "docs" / "openapi.json"


class NoFiles:
    """A gallery that would make its folders is not opened for a document."""

    def picture_path(self, filename: str) -> None:
        """Nothing is there."""

    def thumbnail_path(self, filename: str) -> None:
        """Nothing is there."""


def paper_document(dialects: Dialects = Dialects()) -> dict[str, Any]:  # noqa: B008  frozen
    """The document. Nothing is opened for it: it follows from the model alone."""
    return paper_app(_paper_model(), dialects).openapi()


def write_snapshot(path: Path = SNAPSHOT) -> None:
    """Write the document as it is compared."""
    path.write_text(json.dumps(paper_document(), indent=2) + "\n")


def paper_app(model: Model, dialects: Dialects = Dialects()) -> FastAPI:  # noqa: B008  frozen
    """The app for a model without a worker: a request that is in order is told to come again."""
    return create_app(_services(model, dialects), Access())


def _paper_model() -> Model:
    package = ModelPackage(Path("paper"), MANIFEST, digest="")
    return Model(
        package=package,
        family=family_named(MANIFEST.family),
        tokenizers={},
        shelf=LoraShelf(package),
        inversions=InversionShelf(package),
    )


def _services(model: Model, dialects: Dialects) -> Services:
    nowhere = Path("nowhere")
    broker = LocalBroker(nowhere, model.name, queue_limit=1, lease_seconds=1, max_attempts=1)
    supervisor = Supervisor(broker, WorkerOptions(nowhere, model.name, nowhere, lease_seconds=1))
    return Services(
        Models.of(model), broker, supervisor, NoFiles(), Metrics(), Callers(), dialects=dialects
    )


if __name__ == "__main__":
    write_snapshot()
