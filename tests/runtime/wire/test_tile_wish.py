"""The wish for tiles, as users write it."""

import pytest

from runtime.wire.tile_wish import read_tile_wish


@pytest.mark.parametrize(
    ("text", "wish"), [("auto", "auto"), ("off", "off"), ("128", 128), ("1024", 1024)]
)
def test_a_wish_is_a_word_or_a_number_of_pixels(text: str, wish: object) -> None:
    assert read_tile_wish(text) == wish


@pytest.mark.parametrize(
    "text", ["", "on", "Auto", "0", "120", "130", "-128", "128.0", "1e3", "٢٥٦", "8" * 5000]
)
def test_anything_else_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected auto, off, or a multiple of 8 pixels from 128"):
        read_tile_wish(text)
