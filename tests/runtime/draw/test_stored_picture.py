"""Pictures of a gallery are read back, and what is none is said to be none."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from runtime.draw.infotext import Infotext
from runtime.draw.recipe import EXTENSIONS, encode_picture
from runtime.draw.stored_picture import read_stored, stored_thumbnail
from runtime.plan.families.sdxl import Sdxl
from runtime.plan.parameters import parameters_schema
from runtime.plan.request import read_request
from tests.tiny.manifests import MANIFEST

SCHEMA = parameters_schema(MANIFEST, Sdxl().facts(MANIFEST))
PIXELS = np.random.default_rng(0).integers(0, 256, (640, 960, 3), np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures") / "picture"


@pytest.mark.parametrize("output_format", EXTENSIONS)
@pytest.mark.parametrize(
    ("written", "model"),
    [
        ("Steps: 3, Model: paper, Version: x", "paper"),
        ('Steps: 3, Model: "a, \\"b\\": c", Version: x', 'a, "b": c'),
        ("Steps: 3, Model hash: 0123", ""),
        ('Steps: 3, Model: "a', ""),
    ],
)
def test_a_file_tells_its_size_its_request_and_its_model(
    output_format: str, written: str, model: str, place: Path
) -> None:
    request = read_request({"prompt": "größe, 猫", "output_format": output_format}, SCHEMA)
    text = Infotext("Model: no, \nModel: neither", "", "", written)
    place.write_bytes(encode_picture(PIXELS[:64, :96], request, text).content)
    stored = read_stored(place)
    assert stored is not None
    assert (stored.width, stored.height, stored.model) == (96, 64, model)
    assert stored.request == request.to_json()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_a_thumbnail_is_a_small_webp(mode: str, place: Path) -> None:
    Image.fromarray(PIXELS).convert(mode).save(place, "PNG")
    content = stored_thumbnail(place)
    assert content is not None
    with Image.open(BytesIO(content)) as image:
        assert (image.format, image.size) == ("WEBP", (256, 171))


def test_a_picture_that_is_cut_short_has_no_thumbnail(place: Path) -> None:
    Image.fromarray(PIXELS).save(place, "PNG")
    place.write_bytes(place.read_bytes()[:1000])
    assert stored_thumbnail(place) is None


@given(st.binary(max_size=200), st.integers(0, 3000))
def test_any_other_file_is_no_picture(place: Path, content: bytes, at: int) -> None:
    buffer = BytesIO()
    Image.fromarray(PIXELS[:16, :16]).save(buffer, "PNG")
    whole = buffer.getvalue()
    for each in (content, whole[:at] + content + whole[at + len(content) :]):
        place.write_bytes(each)
        read_stored(place)
        stored_thumbnail(place)
    place.write_bytes(content)
    assert read_stored(place) is None


def test_a_file_that_is_not_there_is_the_callers_to_know(place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_stored(place.with_name("absent"))
