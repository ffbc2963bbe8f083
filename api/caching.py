"""Conditional answers: a copy that the caller holds is not sent again (RFC 9110, 13.1.2)."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import Header, Response

IfNoneMatch = Annotated[
    str | None, Header(alias="If-None-Match", description="The `ETag` of the copy at hand.")
]


def unless_held(
    held: str | None, content: bytes, media_type: str, tag: str, headers: Mapping[str, str]
) -> Response:
    """The content under a tag; 304 where `held`, the `If-None-Match` of a request, has the tag."""
    etag = f'"{tag}"'
    given = {**headers, "ETag": etag}
    tags = [each.strip().removeprefix("W/") for each in (held or "").split(",")]
    if etag in tags or "*" in tags:
        return Response(status_code=304, headers=given)
    return Response(content, headers=given, media_type=media_type)
