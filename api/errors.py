"""Errors as problems (`application/problem+json`, RFC 9457), with the status of each error."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from math import ceil
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Router
from starlette.types import Scope

from api.callers import OverBound
from api.metrics import Refusal
from api.schemas import Fault, Problem
from runtime.errors import CalotypeError, RequestError, quoted
from runtime.jobs.database_file import DamagedDatabase, DatabaseFault
from runtime.jobs.disk import NoRoom
from runtime.jobs.protocol import (
    ImageNotFound,
    JobEnded,
    JobNotFound,
    QueueFull,
    Stopping,
    Unavailable,
)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2
ROOM_SECONDS = 30

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class NotJson(CalotypeError):
    """A body that cannot be parsed."""


class BodyCutShort(CalotypeError):
    """The caller closed the connection in the middle of the body; nobody reads the answer."""


class BodyTooLarge(CalotypeError):
    """A body over the limit."""


class BodyNotDeclared(CalotypeError):
    """A body whose headers do not say that plain JSON is in it."""


class UnknownModel(RequestError):
    """A request names a model that is not served."""


class NoKeys(CalotypeError):
    """The server takes no keys."""


class PictureNotMade(CalotypeError):
    """A picture that its caller waited for failed."""


class NotReady(CalotypeError):
    """No worker has loaded the model yet."""


class StreamOver(Exception):
    """The client has seen the stream's last event: 204, which stops an EventSource."""


_STATUSES: Mapping[type[CalotypeError], HTTPStatus] = {
    RequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnknownModel: HTTPStatus.NOT_FOUND,
    NotJson: HTTPStatus.BAD_REQUEST,
    BodyCutShort: HTTPStatus.BAD_REQUEST,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    BodyNotDeclared: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    JobNotFound: HTTPStatus.NOT_FOUND,
    ImageNotFound: HTTPStatus.NOT_FOUND,
    NoKeys: HTTPStatus.NOT_FOUND,
    JobEnded: HTTPStatus.CONFLICT,
    QueueFull: HTTPStatus.SERVICE_UNAVAILABLE,
    NoRoom: HTTPStatus.INSUFFICIENT_STORAGE,
    DatabaseFault: HTTPStatus.SERVICE_UNAVAILABLE,
    DamagedDatabase: HTTPStatus.SERVICE_UNAVAILABLE,
    NotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    PictureNotMade: HTTPStatus.INTERNAL_SERVER_ERROR,
    Stopping: HTTPStatus.SERVICE_UNAVAILABLE,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    OverBound: HTTPStatus.TOO_MANY_REQUESTS,
}

_REFUSALS: Mapping[type[CalotypeError], Refusal] = {
    QueueFull: "queue_full",
    NoRoom: "no_room",
    NotReady: "not_ready",
    DatabaseFault: "database",
    DamagedDatabase: "database",
    Stopping: "stopping",
    Unavailable: "database",
    OverBound: "over_bound",
}

# Headers that tell a program what to do about a status, as RFC 9110 has them.
_REMEDIES: Mapping[HTTPStatus, Mapping[str, str]] = {
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": str(RETRY_SECONDS)},
    HTTPStatus.INSUFFICIENT_STORAGE: {"Retry-After": str(ROOM_SECONDS)},
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
    },
}


def problem(
    status: int,
    detail: str,
    errors: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error's answer, in ASCII: a detail may quote text that is no Unicode."""
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=list(errors) or None,
    )
    content = json.dumps(body.model_dump(exclude_none=True)).encode()
    return Response(content, status, headers, MEDIA_TYPE)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, for the documentation."""
    schema = {"$ref": "#/components/schemas/Problem"}
    retry = {"schema": {"type": "integer"}, "description": "Try again after so many seconds."}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
            **({"headers": {"Retry-After": retry}} if status in {429, 503, 507} else {}),
        }
        for status in statuses
    }


def handle_errors(app: FastAPI) -> None:
    """Answer every error of the app with a problem."""
    app.add_exception_handler(CalotypeError, _our_error)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(StreamOver, _stream_over)


async def _our_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CalotypeError)
    if reason := _REFUSALS.get(type(error)):
        request.app.state.services.metrics.refused(reason)
    status = _STATUSES.get(type(error))
    if status is None:
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
    faults = error.faults if isinstance(error, RequestError) else ()
    errors = [Fault(pointer=fault.pointer, detail=fault.detail) for fault in faults]
    remedy = _REMEDIES.get(status)
    if isinstance(error, OverBound):
        remedy = {"Retry-After": str(ceil(error.retry_seconds))}
    return problem(status, str(error), errors, remedy)


async def _wrong_parameter(_: Request, error: Exception) -> Response:
    """Answer a wrong query parameter or header; the model checks bodies itself."""
    assert isinstance(error, RequestValidationError)
    errors = [
        Fault(
            pointer=f"/{fault['loc'][-1]}",
            detail=f"{quoted(fault['input'])}: {fault['msg'].lower()}",
        )
        for fault in error.errors()
    ]
    detail = "; ".join(f"{fault.pointer[1:]}: {fault.detail}" for fault in errors)
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        detail = f"{request.method} is not possible at {request.url.path}"
        allow = allowed_methods(request.app.router, request.scope)
        return problem(405, detail, headers={"Allow": allow})
    detail = _not_found(request) if error.status_code == 404 else str(error.detail)
    return problem(error.status_code, detail, headers=error.headers)


def _not_found(request: Request) -> str:
    path = request.url.path
    shorter = path.rstrip("/")
    if allowed_methods(request.app.router, {**request.scope, "path": shorter}):
        return f"nothing is at {path}; {shorter} is written without the last /"
    return f"nothing is at {path}; /docs says what there is"


def allowed_methods(router: Router, scope: Scope) -> str:
    """Methods that any route takes at the address, as `Allow` lists them; empty for no address."""
    scopes = {method: {**scope, "method": method} for method in _METHODS}
    taken = {
        method
        for method, each in scopes.items()
        if any(route.matches(each)[0] is Match.FULL for route in router.routes)
    }
    if "GET" in taken:
        taken.add("HEAD")
    return ", ".join(method for method in _METHODS if method in taken)


async def _stream_over(_: Request, __: Exception) -> Response:
    return Response(status_code=HTTPStatus.NO_CONTENT)


def unforeseen() -> Response:
    """The answer to an error that is a bug of ours; its traceback is in the log."""
    detail = "an error of ours, which is in the server's log; the request may be sent again"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail)
