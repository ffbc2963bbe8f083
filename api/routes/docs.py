"""`/docs`: Swagger UI over the OpenAPI document, with nothing from another host."""

from pathlib import Path

from fastapi import APIRouter, Response

from api.caching import IfNoneMatch
from api.static_files import StaticFiles

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parents[1] / "swagger"
PAGE = "index.html"
# Its icons are data URLs; a picture that was tried out is shown as a blob.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_FILES = StaticFiles(FOLDER, _POLICY)


@router.get("/docs")
async def get_docs(if_none_match: IfNoneMatch = None) -> Response:
    """The page."""
    return await _FILES.answer(PAGE, if_none_match)


@router.get("/docs/{name}")
async def get_docs_file(name: str, if_none_match: IfNoneMatch = None) -> Response:
    """A file that the page names."""
    return await _FILES.answer(name, if_none_match)
