"""How often a request looks at the folder of LoRA packs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.access import Access
from api.app import create_app
from api.callers import Callers
from api.metrics import Metrics
from api.services import Services
from runtime.gallery import Gallery
from runtime.jobs.facts import EngineFacts, WorkerFacts, WorkerState
from runtime.package.manifest import load_package
from runtime.package.pack import LoraPack
from runtime.package.shelf import LoraShelf
from runtime.plan.model import open_model
from runtime.plan.models import Models
from runtime.plan.served import BatchLimits, Served
from tests.places import ROOT
from tests.runtime.jobs.support import open_broker

BODY = {"prompt": "a red heart", "loras": [{"id": "monochrome", "weight": 0.5}]}


class CountingShelf(LoraShelf):
    """A shelf that counts its listings."""

    listings = 0

    def packs(self) -> tuple[LoraPack, ...]:
        self.listings += 1
        return super().packs()


@dataclass(frozen=True)
class ReadyWorkers:
    """A worker that is ready and draws nothing."""

    engine: EngineFacts
    workers: Sequence[WorkerFacts] = (WorkerFacts(1, WorkerState.READY, "cpu", 0, None),)
    ready: bool = True

    def engine_of(self, _model: str) -> EngineFacts:
        return self.engine


ENGINE = EngineFacts(
    backend="onnxruntime-cpu",
    target="",
    device="cpu",
    precision="fp32",
    ready_since=datetime(2026, 1, 1, tzinfo=UTC),
    note="",
    served=Served(BatchLimits(1, 2)),
)


@asynccontextmanager
async def client_of(shelf: LoraShelf, data: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The app over the demo model with this shelf; its jobs wait."""
    model = replace(open_model(ROOT / "engines", "demo"), shelf=shelf)
    async with open_broker(data, model.name) as broker:
        rooms = Services(
            Models.of(model), broker, ReadyWorkers(ENGINE), Gallery(data), Metrics(), Callers()
        )
        transport = httpx.ASGITransport(create_app(rooms, Access()))
        async with httpx.AsyncClient(transport=transport, base_url="http://calotype") as client:
            yield client


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/generate", BODY, 202),
        ("POST", "/api/generate", {**BODY, "steps": 0}, 422),
        ("GET", "/api/info", None, 200),
        ("GET", "/openapi.json", None, 200),
    ],
)
def test_a_request_lists_the_packs_once(
    method: str, path: str, body: dict[str, Any] | None, status: int, tmp_path: Path
) -> None:
    shelf = CountingShelf(load_package(ROOT / "engines", "demo"))

    async def answer() -> httpx.Response:
        async with client_of(shelf, tmp_path) as client:
            return await client.request(method, path, json=body)

    assert asyncio.run(answer()).status_code == status
    assert shelf.listings == 1
