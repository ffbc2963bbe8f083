"""Files that the server ships for browsers: pages with their scripts and styles."""

import asyncio
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fastapi import Response
from starlette.exceptions import HTTPException

from api.caching import unless_held

MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFiles:
    """The files of one folder that have one of MEDIA_TYPES; no other is served."""

    folder: Path
    policy: str
    """`Content-Security-Policy` of them all."""

    async def answer(self, name: str, held: str | None) -> Response:
        """The file; 304 where `held`, the `If-None-Match` of a request, has its tag. Raises
        HTTPException (404) for a name that is none of them.
        """
        content = await asyncio.to_thread(self._read, name)
        if content is None:
            raise HTTPException(404)
        # Asked for each time: another version of the server may have other files.
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": self.policy}
        tag = sha256(content).hexdigest()[:16]
        return unless_held(held, content, MEDIA_TYPES[Path(name).suffix], tag, headers)

    def _read(self, name: str) -> bytes | None:
        path = self.folder / name
        served = path.name == name and path.suffix in MEDIA_TYPES and path.is_file()
        return path.read_bytes() if served else None
