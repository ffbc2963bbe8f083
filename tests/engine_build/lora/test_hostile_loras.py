"""LoRA files as nobody should write them: taken, or refused in one line."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from engine_build.lora.convert import convert
from engine_build.lora.formats import read_lora
from tests.engine_build.checkpoint.hostile import hostile_file, hostile_tensors
from tests.engine_build.lora.test_every_tensor import PAPER, SHAPES
from tests.hostile import put, refusal
from tests.inputs import Inputs
from tests.tiny.lora_formulas import FORMS, Recipe, possible, written

LAYERS = tuple(f"lora_unet_{path.replace('.', '_')}" for path in SHAPES)
ENDINGS = (
    *(".lora_up.weight", ".lora_down.weight", ".lora_A.weight", ".lora_B.weight", ".alpha"),
    *(".dora_scale", ".lora_mid.weight", ".hada_w1_a", ".lokr_w1", ".diff", ".diff_b", ".w_norm"),
)
NAMES = (
    *map("".join, product(LAYERS, ENDINGS)),
    *(
        "bundle_emb.ink.clip_l",
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha",
        "x.oft_blocks",
    ),
)


def sound_files() -> list[bytes]:
    """A file of one layer in each form, and one with a LoRA of all layers."""
    files = []
    for form, (path, shape) in product(FORMS, SHAPES.items()):
        for dora in (None, "dora_scale"):
            recipe = Recipe(form, shape, biased=dora is None, dora=dora, alpha=1.0)  # type: ignore[arg-type]
            if possible(recipe):
                layer = f"lora_unet_{path.replace('.', '_')}"
                files.append(_saved({layer + end: each for end, each in written(recipe).items()}))
    return files


def _saved(tensors: dict[str, np.ndarray]) -> bytes:
    metadata = {"ss_network_alpha": "2", "ss_network_args": '{"conv_alpha": "1"}'}
    return bytes(
        save({name: np.ascontiguousarray(each) for name, each in tensors.items()}, metadata)
    )


@pytest.mark.fuzz
def test_a_hostile_lora_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, inputs: Inputs
) -> None:
    path = tmp_path_factory.mktemp("loras") / "lora.safetensors"

    def read(path: Path) -> None:
        convert(read_lora(path), PAPER)

    sound = sound_files()
    for content in sound:
        put(path, content)
        assert refusal(read, path) is None
    for chance in inputs:
        near = chance.randrange(4)
        content = hostile_tensors(chance, chance.choice(sound), NAMES)
        put(path, content if near else hostile_file(chance, NAMES))
        refusal(read, path)
