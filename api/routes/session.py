"""`/api/session`: a browser's session, by which it acts for a key."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from api.body import parse_body, read_body
from api.errors import NoKeys, problems
from api.gate import ended_cookie, session_cookie, unknown_caller
from api.keys import KeyFile
from api.services import Rooms
from runtime.errors import RequestError

router = APIRouter(prefix="/api/session", tags=["session"])

_COOKIE = {"headers": {"Set-Cookie": {"schema": {"type": "string"}}}}
_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["key"],
                "properties": {"key": {"type": "string"}},
                "additionalProperties": False,
            }
        }
    },
}


def _keys(rooms: Rooms) -> KeyFile:
    """The server's keys. Raises NoKeys where it takes none."""
    if rooms.keys is None:
        raise NoKeys("this server takes no keys: nobody needs a session")
    return rooms.keys


Keys = Annotated[KeyFile, Depends(_keys)]


@router.post(
    "",
    status_code=204,
    response_class=Response,
    responses={
        204: {"description": "The cookie is set.", **_COOKIE},
        **problems(400, 401, 403, 404, 413, 415, 422),
    },
    openapi_extra={"requestBody": _BODY},
)
async def begin_session(request: Request, keys: Keys) -> Response:
    """Give a browser a cookie for a key: pictures and streams are asked for without a header."""
    body = parse_body(await read_body(request))
    text = body.get("key") if isinstance(body, dict) and set(body) == {"key"} else None
    if not isinstance(text, str):
        # What was sent may hold a key: it is not quoted.
        raise RequestError("/key", "the body is one member, `key`, a string")
    key = keys.find(text)
    if key is None:
        return unknown_caller(given=True)
    cookie = session_cookie(keys, key, secure=_is_secure(request))
    return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Set-Cookie": cookie})


@router.delete(
    "",
    status_code=204,
    response_class=Response,
    dependencies=[Depends(_keys)],
    responses={204: {"description": "The cookie is gone.", **_COOKIE}, **problems(403, 404)},
)
async def end_session(request: Request) -> Response:
    """Take the browser's cookie back."""
    cookie = ended_cookie(secure=_is_secure(request))
    return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Set-Cookie": cookie})


def _is_secure(request: Request) -> bool:
    """True where the browser speaks https, to this server or to the proxy before it."""
    origin = request.headers.get("origin", "")
    return request.url.scheme == "https" or origin.startswith("https://")
