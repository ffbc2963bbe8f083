"""`/`: a page to draw by, with nothing from another host."""

from pathlib import Path

from fastapi import APIRouter, Response

from api.caching import IfNoneMatch
from api.static_files import StaticFiles

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parents[1] / "page"
PAGE = "index.html"
# Previews are data URLs. Trusted types: no text can become HTML or a script, ours included.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_FILES = StaticFiles(FOLDER, _POLICY)


@router.get("/")
async def get_page(if_none_match: IfNoneMatch = None) -> Response:
    """The page."""
    return await _FILES.answer(PAGE, if_none_match)


@router.get("/page/{name}")
async def get_page_file(name: str, if_none_match: IfNoneMatch = None) -> Response:
    """A file that the page names."""
    return await _FILES.answer(name, if_none_match)
