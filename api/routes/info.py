"""`GET /api/info`: the model, its engine, and the JSON Schema of its requests."""

import asyncio
from importlib.metadata import version

from fastapi import APIRouter

from api.schemas import EngineInfo, Info, LoraInfo, ModelInfo
from api.services import Rooms
from runtime.plan.order import for_several

router = APIRouter(prefix="/api", tags=["server"])


@router.get("/info")
async def get_info(rooms: Rooms) -> Info:
    """The loaded model, the JSON Schema of its requests, its LoRAs, its engines."""
    manifest = rooms.model.package.manifest
    loras = await asyncio.to_thread(rooms.model.loras)
    return Info(
        model=ModelInfo(
            name=manifest.name,
            family=manifest.family,
            source=manifest.source.reference,
            description=manifest.described,
            vocabulary=list(manifest.vocabulary),
        ),
        parameters=for_several(rooms.model.parameters(loras)),
        samplers=list(rooms.model.family.facts(manifest).samplers),
        loras=[LoraInfo.of(offer) for offer in loras],
        engine=EngineInfo.of(rooms.workers.engine),
        version=version("calotype"),
    )
