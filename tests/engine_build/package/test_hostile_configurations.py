"""Configurations that others wrote, with values of other kinds: one line, before any work."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine_build.package.build import BuildRequest, read_source
from runtime.errors import SourceError


@pytest.fixture(scope="module")
def source(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(tiny_source, tmp_path_factory.mktemp("hostile") / "source")


def _read(path: Path) -> object:
    return read_source(BuildRequest(path, "hostile", path.parent))


WRONG: list[tuple[str, str, Any]] = [
    ("unet/config.json", "block_out_channels", "text"),
    ("unet/config.json", "block_out_channels", 5),
    ("unet/config.json", "in_channels", -4),
    ("vae/config.json", "block_out_channels", {}),
    ("text_encoder/config.json", "max_position_embeddings", "77"),
    ("text_encoder/config.json", "hidden_size", [1]),
    ("tokenizer/tokenizer_config.json", "model_max_length", [77]),
    ("tokenizer/tokenizer_config.json", "model_max_length", -1),
]


@pytest.mark.parametrize(("name", "key", "value"), WRONG)
def test_a_value_of_another_kind_is_refused(
    source: Path, name: str, key: str, value: object
) -> None:
    file = source / name
    sound = file.read_text()
    file.write_text(json.dumps({**json.loads(sound), key: value}))
    try:
        with pytest.raises(SourceError):
            _read(source)
    finally:
        file.write_text(sound)
