"""`/sdapi/v1`: what clients of AUTOMATIC1111's API read at their start, and its settings."""

import asyncio

from fastapi import APIRouter, Request

from api.a1111.answers import (
    Lora,
    Memory,
    Nothing,
    Options,
    Sampler,
    Scheduler,
    Scripts,
    SdModel,
    SdVae,
    UpscaleMode,
    Upscaler,
)
from api.a1111.names import AUTOMATIC, identifier, names_of
from api.body import read_json_body
from api.errors import problems
from api.openapi import TXT2IMG_OPTIONS, reference
from api.routes.a1111 import OpenDesk, owner
from api.services import Rooms
from runtime.machine import available_bytes

router = APIRouter(tags=["a1111"])


@router.get("/sdapi/v1/options")
async def get_options(request: Request, desk: OpenDesk) -> Options:
    """The caller's model, and the settings by which it draws."""
    checkpoint = desk.window(owner(request)).checkpoint
    return Options(sd_model_checkpoint=checkpoint.title, sd_checkpoint_hash=checkpoint.sha256)


@router.post(
    "/sdapi/v1/options",
    responses=problems(400, 403, 413, 415, 422),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": reference(TXT2IMG_OPTIONS)}},
        }
    },
)
async def set_options(request: Request, desk: OpenDesk) -> Nothing:
    """The model of the caller's requests; without keys, of everybody's. Of other settings those
    are taken that are so already."""
    desk.set(owner(request), await read_json_body(request))
    return Nothing()


@router.get("/sdapi/v1/sd-models")
async def list_sd_models(desk: OpenDesk) -> list[SdModel]:
    """The models that are served, the default first."""
    return [
        SdModel(
            title=model.title,
            model_name=model.name,
            hash=model.short_hash,
            sha256=model.sha256,
            filename=model.name,
        )
        for model in desk.checkpoints
    ]


@router.get("/sdapi/v1/samplers")
async def list_samplers(request: Request, desk: OpenDesk) -> list[Sampler]:
    """The samplers of the caller's model."""
    names = desk.window(owner(request)).txt2img.names
    named = [names_of(sampler) for sampler in names.samplers]
    return [Sampler(name=title, aliases=list(aliases), options={}) for title, *aliases in named]


@router.get("/sdapi/v1/schedulers")
async def list_schedulers(request: Request, desk: OpenDesk) -> list[Scheduler]:
    """The schedules of the caller's model; Automatic is its own."""
    titles = (AUTOMATIC, *desk.window(owner(request)).txt2img.names.schedules)
    return [Scheduler(name=identifier(title), label=title) for title in titles]


@router.get("/sdapi/v1/loras")
async def list_loras(request: Request, rooms: Rooms, desk: OpenDesk) -> list[Lora]:
    """The LoRAs of the caller's model, by the names that stand in a prompt."""
    model = rooms.models.named(desk.window(owner(request)).checkpoint.name)
    offers = await asyncio.to_thread(model.loras)
    return [
        Lora(name=each.id, alias=each.name, path=each.id, metadata={"triggers": each.triggers})
        for each in offers
    ]


@router.get("/sdapi/v1/sd-vae")
async def list_vaes() -> list[SdVae]:
    """None: a model has one VAE, its own."""
    return []


@router.get("/sdapi/v1/upscalers")
async def list_upscalers() -> list[Upscaler]:
    """None, by the name of None."""
    return [Upscaler()]


@router.get("/sdapi/v1/latent-upscale-modes")
async def list_upscale_modes() -> list[UpscaleMode]:
    """None: there is no hires fix."""
    return []


@router.get("/sdapi/v1/scripts")
async def list_scripts() -> Scripts:
    """None."""
    return Scripts()


@router.get("/sdapi/v1/memory")
async def get_memory() -> Memory:
    """The memory that the server's machine has free."""
    free = await asyncio.to_thread(available_bytes)
    return Memory(ram={} if free is None else {"free": free}, cuda={})


@router.get("/internal/ping")
async def ping() -> Nothing:
    """The server answers."""
    return Nothing()
