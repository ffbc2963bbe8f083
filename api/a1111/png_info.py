"""`png-info`: the recipe in a picture that somebody sends."""

import binascii
from base64 import b64decode
from io import BytesIO

from api.a1111.answers import PngInfo
from api.a1111.infotext import read_infotext
from runtime.errors import RequestError


def read_picture(image: str) -> PngInfo:
    """The recipe in a picture file in base64, also as a data URL. Raises RequestError.

    An address is not fetched: a server that does reaches where its callers may not.
    """
    # Pillow is loaded with the first picture: a server starts without it.
    from runtime.picture_texts import read_texts

    text = image.strip()
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        content = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("/image", "is no base64; send the picture file, no address") from None
    texts = read_texts(BytesIO(content))
    if texts is None:
        raise RequestError("/image", "is no picture that can be read: send PNG, WebP or JPEG")
    found = {"parameters": texts.parameters, "calotype": texts.recipe}
    return PngInfo(
        info=texts.parameters,
        items={name: text for name, text in found.items() if text},
        parameters=dict(read_infotext(texts.parameters)),
    )
