"""The memory of a package on cards of the usual sizes, as `inspect` tells."""

from dataclasses import replace

import pytest

from engine_build.package.memory import memory_text, package_needs
from runtime.backends.room import run_bytes
from runtime.package.manifest import Manifest, Parameter, load_package
from tests.places import ENGINES

# Bytes of the published weights in bf16, as the sizes of the files of the published models say.
FLUX = {"denoiser": 23.80, "text_encoder": 0.25, "text_encoder_2": 9.52, "vae_decoder": 0.10}
CHROMA = {"denoiser": 17.80, "text_encoder": 9.52, "vae_decoder": 0.10}
ZIMAGE = {"denoiser": 12.31, "text_encoder": 7.84, "vae_decoder": 0.10}


def sized(weights: dict[str, float]) -> Manifest:
    """A manifest of pictures of 1024x1024 whose roles have weights of so many GB in bf16."""
    manifest = load_package(ENGINES, "demo").manifest
    role = manifest.roles["vae_decoder"]

    def parameters(size: float) -> dict[str, Parameter]:
        whole = next(iter(role.parameters.values()))
        return {"all": replace(whole, shape=(round(size * 1e9) // 2,), dtype="BF16")}

    roles = {name: replace(role, parameters=parameters(size)) for name, size in weights.items()}
    defaults = replace(manifest.defaults, width=1024, height=1024)
    return replace(manifest, roles=roles, defaults=defaults)


@pytest.mark.parametrize(
    ("weights", "places"),
    [
        (FLUX, ["does not fit", "does not fit", "keep", "keep", "keep"]),
        (CHROMA, ["does not fit", "cpu", "keep", "keep", "keep"]),
        (ZIMAGE, ["cpu", "keep", "keep", "keep", "keep"]),
    ],
)
def test_each_card_has_the_first_place_that_fits(
    weights: dict[str, float], places: list[str]
) -> None:
    lines = memory_text(sized(weights)).splitlines()
    cards = [line.split("  ")[-1] for line in lines if " GB  " in line]
    assert [card.partition(":")[0] for card in cards] == places


def test_the_weights_of_each_role_are_told_and_what_runs_take() -> None:
    manifest = sized(CHROMA)
    assert package_needs(manifest).runs == run_bytes(1024 * 1024)
    text = memory_text(manifest)
    assert "the engines take some 27.42 GB (denoiser 17.80, text_encoder 9.52" in text
    assert "at 1024x1024" in text
    assert "and take 19.04 GB of the machine's memory" in text
