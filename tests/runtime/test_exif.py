"""EXIF as readers of others find it."""

import struct
from io import BytesIO

import piexif
import piexif.helper
import pytest
from PIL import Image

from runtime.exif import exif_block, exif_comment, exif_description

DESCRIPTIONS = [None, b"", b"a", b"abc", b"odd", "größe".encode(), b"{}" * 9000]
COMMENTS = [None, "", "a", "größe 猫 😀", "x" * 9000]


@pytest.mark.parametrize("description", DESCRIPTIONS)
@pytest.mark.parametrize("comment", COMMENTS)
@pytest.mark.parametrize("container", ["JPEG", "WEBP", "PNG"])
def test_both_fields_are_read_back(
    description: bytes | None, comment: str | None, container: str
) -> None:
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, container, exif=exif_block(description, comment))
    with Image.open(buffer) as image:
        image.load()
        exif = piexif.load(image.info["exif"])
        assert exif_description(image) == (description or b"").decode()
        assert exif_comment(image) == (comment or "")
    assert exif["0th"].get(piexif.ImageIFD.ImageDescription) == description
    found = exif["Exif"].get(piexif.ExifIFD.UserComment)
    assert (None if found is None else piexif.helper.UserComment.load(found)) == comment
    assert exif["Exif"][piexif.ExifIFD.ExifVersion] == b"0232"


def test_the_comment_is_of_the_type_that_the_standard_names() -> None:
    block = exif_block(None, "a").removeprefix(b"Exif\0\0")
    (exif,) = struct.unpack_from(">I", block, 8 + 2 + 8)
    tags = [struct.unpack_from(">HH", block, exif + 2 + 12 * index) for index in range(2)]
    assert tags == [(0x9000, 7), (0x9286, 7)]


@pytest.mark.parametrize("value", [1, (1, 2), b"\xff\xfe", "a"])
def test_what_others_wrote_there_is_no_comment_of_ours(value: object) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = value
    image = Image.new("RGB", (8, 8))
    buffer = BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    with Image.open(buffer) as read:
        assert exif_comment(read) == ""
