"""Answers of OpenAI's Images API: pictures, events and models, as its clients read them."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from api.file_content import file_content
from api.services import Services
from runtime.errors import CalotypeError
from runtime.jobs.protocol import Image, Job, JobError, JobStatus, Stopping
from runtime.plan.order import Order


class PictureFailed(CalotypeError):
    """A picture that was asked for did not come to be."""


class TokenDetails(BaseModel):
    """The tokens that were read, by kind."""

    text_tokens: int
    image_tokens: int = 0


class Usage(BaseModel):
    """Tokens of the prompts, filling left out; a picture is made of none."""

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int = 0
    total_tokens: int

    @classmethod
    def of(cls, order: Order) -> "Usage":
        """The tokens of an order's prompts."""
        read = [prompt for prompt in order.plan.prompts if not prompt.zeroed]
        count = sum(prompt.tokens - prompt.filling for prompt in read)
        details = TokenDetails(text_tokens=count)
        return cls(input_tokens=count, input_tokens_details=details, total_tokens=count)


class ImageData(BaseModel):
    """One picture: itself, its address, or both."""

    b64_json: str | None = None
    url: str | None = None


class Look(BaseModel):
    """The form of an order's pictures."""

    size: str
    output_format: Literal["png", "webp", "jpeg"]
    background: Literal["opaque"] = "opaque"
    quality: Literal["high"] = "high"

    @classmethod
    def of(cls, order: Order) -> "Look":
        """The form that an order asks for."""
        request = order.plan.request
        return cls(size=f"{request.width}x{request.height}", output_format=request.output_format)


class ImagesAnswer(Look):
    """All pictures of a request."""

    created: int
    data: list[ImageData]
    usage: Usage


class PartialImage(Look):
    """A picture in the making."""

    type: Literal["image_generation.partial_image"] = "image_generation.partial_image"
    b64_json: str
    partial_image_index: int
    created_at: int


class CompletedImage(Look):
    """A finished picture of a stream."""

    type: Literal["image_generation.completed"] = "image_generation.completed"
    b64_json: str
    created_at: int
    usage: Usage


class ServedModel(BaseModel):
    """A model that may be named in a request."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "calotype"


class ServedModels(BaseModel):
    """The models that may be named."""

    object: Literal["list"] = "list"
    data: Sequence[ServedModel]


def picture_of(status: JobStatus, image: Image | None, error: JobError | None) -> Image:
    """The picture of a job in this status. Raises PictureFailed, Stopping."""
    if not status.ended:
        raise Stopping("the server is being stopped; the picture is drawn once it is back")
    if image is None:
        detail = f"{error.title}: {error.detail}" if error else f"it was {status} or deleted"
        raise PictureFailed(f"there is no picture: {detail}")
    return image


async def encoded(rooms: Services, image: Image) -> str:
    """The bytes of a picture's file in base64. Raises PictureFailed where it is gone."""

    def read() -> str:
        content = file_content(rooms.files.picture_path, image.filename)
        if content is None:
            raise PictureFailed(f"there is no picture: {image.filename} has been deleted")
        return base64.b64encode(content).decode("ascii")

    return await asyncio.to_thread(read)


async def image_data(
    rooms: Services, job: Job, base_url: str | None, *, with_content: bool
) -> ImageData:
    """The picture of a job that has ended: itself, and its address below `base_url`, where there is
    one.
    """
    image = picture_of(job.status, job.image, job.error)
    return ImageData(
        b64_json=await encoded(rooms, image) if with_content else None,
        url=None if base_url is None else f"{base_url}/api/images/{image.filename}",
    )
