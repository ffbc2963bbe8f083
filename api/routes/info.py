"""`GET /api/info`: the model, its engine, and the JSON Schema of its requests."""

import asyncio
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query

from api.errors import UnknownModel, problems
from api.schemas import EngineInfo, Info, LoraInfo, ModelInfo
from api.services import Rooms
from runtime.errors import RequestError

router = APIRouter(prefix="/api", tags=["server"])


NamedModel = Annotated[
    str | None, Query(alias="model", description="The model to describe; the default if left out.")
]


@router.get("/info", responses=problems(404, 422))
async def get_info(rooms: Rooms, name: NamedModel = None) -> Info:
    """A model, the JSON Schema of its requests, its LoRAs, its engines; and all that are served."""
    try:
        model = rooms.model if name is None else rooms.models.named(name)
    except RequestError as error:
        raise UnknownModel.of(error.faults) from error
    manifest = model.manifest
    loras = await asyncio.to_thread(model.loras)
    return Info(
        model=ModelInfo(
            name=manifest.name,
            family=manifest.family,
            source=manifest.source.reference,
            description=manifest.described,
            vocabulary=list(manifest.vocabulary),
        ),
        models=list(rooms.models.names),
        parameters=rooms.models.parameters(model, loras),
        samplers=list(model.facts.samplers),
        loras=[LoraInfo.of(offer) for offer in loras],
        engine=EngineInfo.of(rooms.workers.engine_of(model.name), default=model is rooms.model),
        version=version("calotype"),
    )
