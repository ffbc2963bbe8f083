"""ASGI app with every route, the handlers of errors and the documentation."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from api.a1111.desk import Desk
from api.a1111.errors import PREFIXES, spell
from api.access import Access
from api.access_log import LogRequests
from api.boundary import Boundary, HeadAsGet
from api.error_dialect import ErrorDialect
from api.errors import handle_errors
from api.examples import examples_for
from api.gate import Gate
from api.metrics import CountAnswers
from api.openai.errors import PREFIX, spelled
from api.openapi import BODY, TXT2IMG_BODY, TXT2IMG_OPTIONS, openapi, show_examples
from api.routes import (
    a1111,
    a1111_lists,
    docs,
    generate,
    health,
    images,
    info,
    jobs,
    openai,
    page,
    session,
    streams,
)
from api.services import Services
from runtime.jobs.facts import EngineFacts
from runtime.plan.parameters import LoraOffer
from runtime.plan.request import read_request

DESCRIPTION = """Text to image from compiled engines, with a preview at every step.

Submit a job with `POST /api/generate`, follow it at `/api/sse/{job_id}`, fetch its picture from
`/api/images/{filename}`. `GET /api/info` says what the loaded model takes.

Every `GET` answers `HEAD`. A body is declared as `application/json`. What changes anything is
refused to pages of other sites, unless `--allowed-origins` names them."""


def create_app(services: Services, access: Access, *, access_log: bool = False) -> FastAPI:
    """The app over open services, which the caller closes; `access`: who may use it. With an
    `access_log`, a line is logged for every request.
    """
    app = FastAPI(
        title="Calotype",
        version=version("calotype"),
        description=DESCRIPTION,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.services = services
    _add_routes(app, services)
    handle_errors(app)
    _add_middleware(app, services, access, access_log=access_log)
    app.openapi = _documented(app, services)  # type: ignore[method-assign]
    return app


def _add_routes(app: FastAPI, services: Services) -> None:
    for routes in (generate, jobs, streams, images, info, session, health, docs):
        app.include_router(routes.router)
    if services.page:
        app.include_router(page.router)
    if services.dialects.openai:
        app.include_router(openai.router)
    if services.dialects.a1111:
        app.state.a1111 = Desk.of(services.models)
        app.include_router(a1111.router)
        app.include_router(a1111_lists.router)


def _add_middleware(app: FastAPI, services: Services, access: Access, *, access_log: bool) -> None:
    # The last one added is the first that a request meets.
    if services.keys is not None:
        app.add_middleware(Gate, keys=services.keys)
    app.add_middleware(Boundary, access=access, router=app.router)
    if services.dialects.openai:
        app.add_middleware(ErrorDialect, prefixes=(PREFIX,), spell=spelled)
    if services.dialects.a1111:
        app.add_middleware(ErrorDialect, prefixes=PREFIXES, spell=spell)
    # Around the dialects, which read the body of what they write anew.
    app.add_middleware(HeadAsGet)
    app.add_middleware(CountAnswers, metrics=services.metrics)
    if access_log:
        app.add_middleware(LogRequests)


def _documented(app: FastAPI, services: Services) -> Callable[[], dict[str, Any]]:
    """The function that gives the OpenAPI document as it is now."""

    @lru_cache(maxsize=1)
    def document_with(loras: tuple[LoraOffer, ...]) -> dict[str, Any]:
        bodies = {BODY: services.models.parameters(services.model, loras)}
        if services.dialects.a1111:
            txt2img = app.state.a1111.default.txt2img
            bodies |= {TXT2IMG_BODY: txt2img.schema, TXT2IMG_OPTIONS: txt2img.settings}
        return openapi(app, bodies, keyed=services.keys is not None)

    def document() -> dict[str, Any]:
        # LoRA packs come and go while the server runs, and engines are replaced.
        loras = services.model.loras()
        document = document_with(loras)
        check = partial(_check, services.model.parameters(loras), services.workers.engine)
        show_examples(document, examples_for(check))
        return document

    return document


def _check(
    parameters: Mapping[str, Any], engine: EngineFacts | None, body: Mapping[str, Any]
) -> None:
    """Raises RequestError for a body beyond the model's schema or the engine's sizes."""
    request = read_request(body, parameters)
    if engine is not None:
        engine.served.check_size(request.width, request.height)
