"""`/api/images` and `/api/thumbs`: the gallery, its pictures and their thumbnails.

The picture of a name never changes, so that caches may keep pictures without a limit.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from api.caching import IfNoneMatch, unless_held
from api.errors import problems
from api.file_content import file_content
from api.schemas import Image, ImagePage
from api.services import PictureFiles, Rooms
from runtime.errors import RequestError
from runtime.jobs.protocol import Image as StoredImage
from runtime.jobs.protocol import ImageNotFound

router = APIRouter(prefix="/api", tags=["images"])

MEDIA_TYPES = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg"}
_HEADERS = {
    # A Range is passed over: pictures are sent whole.
    "Accept-Ranges": "none",
    "Cache-Control": "public, max-age=31536000, immutable",
}
_NO_SNIFFING = "X-Content-Type-Options"
"""Every answer has it (`api/security_headers.py`); here it is the contract's."""


@router.get(
    "/images",
    responses={
        200: {
            "headers": {
                "Link": {"schema": {"type": "string"}, "description": 'The next page, rel="next".'}
            }
        },
        **problems(422),
    },
)
async def list_images(
    rooms: Rooms,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> ImagePage:
    """The gallery, newest first. A page has fewer pictures where files were taken away."""
    try:
        page = await rooms.broker.images(limit, cursor)
    except ValueError as error:
        raise RequestError("/cursor", str(error)) from error
    if page.next_cursor is not None:
        query = urlencode({"limit": limit, "cursor": page.next_cursor})
        response.headers["Link"] = f'</api/images?{query}>; rel="next"'
    there = await asyncio.to_thread(_with_file, page.images, rooms.files)
    images = [Image.of(image) for image in there]
    return ImagePage(images=images, next_cursor=page.next_cursor)


def _file(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Responses of a file's route, for the documentation."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    headers = {name: {"schema": {"type": "string"}} for name in (*_HEADERS, _NO_SNIFFING, "ETag")}
    return {
        200: {"content": dict.fromkeys(media_types, schema), "headers": headers},
        304: {"description": "The copy at hand is the picture."},
        **problems(404),
    }


@router.get("/images/{filename}", response_class=Response, responses=_file(*MEDIA_TYPES.values()))
async def get_image(filename: str, rooms: Rooms, if_none_match: IfNoneMatch = None) -> Response:
    """The picture."""
    content = await _content(rooms, rooms.files.picture_path, filename)
    media_type = MEDIA_TYPES[Path(filename).suffix]
    return unless_held(if_none_match, content, media_type, filename, _HEADERS)


@router.get("/thumbs/{filename}", response_class=Response, responses=_file("image/webp"))
async def get_thumbnail(filename: str, rooms: Rooms, if_none_match: IfNoneMatch = None) -> Response:
    """The thumbnail of the picture of that name."""
    content = await _content(rooms, rooms.files.thumbnail_path, filename)
    return unless_held(if_none_match, content, "image/webp", filename, _HEADERS)


@router.delete("/images/{filename}", status_code=204, responses=problems(403, 404, 507))
async def delete_image(filename: str, rooms: Rooms) -> None:
    """Delete the picture and its thumbnail; its job stays."""
    await rooms.broker.delete_image(filename)


def _with_file(images: Sequence[StoredImage], files: PictureFiles) -> list[StoredImage]:
    return [image for image in images if files.picture_path(image.filename)]


async def _content(rooms: Rooms, find: Callable[[str], Path | None], filename: str) -> bytes:
    """The file's content. Raises ImageNotFound, which says where it is listed all the same."""
    content = await asyncio.to_thread(file_content, find, filename)
    if content is None:
        await rooms.broker.image(filename)
        raise ImageNotFound(
            f"the file of picture {filename!r} was taken away: put it back, delete the picture, "
            "or run `calotype gallery reindex`, which also makes missing thumbnails"
        )
    return content
