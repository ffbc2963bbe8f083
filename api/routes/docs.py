"""`/docs`: Swagger UI over the OpenAPI document, with nothing from another host."""

import asyncio
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from api.caching import IfNoneMatch, unless_held

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parents[1] / "swagger"
FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "start.js": "text/javascript",
}
# Its icons are data URLs; a picture that was tried out is shown as a blob.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
}


@router.get("/docs")
async def get_docs(if_none_match: IfNoneMatch = None) -> Response:
    """The page."""
    return await _file("index.html", "text/html", if_none_match)


@router.get("/docs/{name}")
async def get_docs_file(name: str, if_none_match: IfNoneMatch = None) -> Response:
    """A file that the page names."""
    if name not in FILES:
        raise HTTPException(404)
    return await _file(name, FILES[name], if_none_match)


async def _file(name: str, media_type: str, held: str | None) -> Response:
    path = FOLDER / name
    content = await asyncio.to_thread(path.read_bytes)
    return unless_held(held, content, media_type, sha256(content).hexdigest()[:16], _HEADERS)
