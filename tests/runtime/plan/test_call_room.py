"""The memory of a call, by shapes."""

from dataclasses import replace
from pathlib import Path

import pytest

from runtime.package.manifest import Manifest, Parameter, read_manifest
from runtime.plan.call_room import CallRoom, call_room
from tests.places import ENGINES
from tests.runtime.package.targets import Made, add_target


@pytest.fixture
def manifest() -> Manifest:
    return read_manifest(ENGINES / "demo")[0]


def with_denoiser(manifest: Manifest, heads: int | None, **parameters: tuple[int, ...]) -> Manifest:
    """The manifest with a denoiser of these parameters alone; `__` stands for a dot."""
    made = {
        name.replace("__", "."): Parameter(name, shape, "F16") for name, shape in parameters.items()
    }
    denoiser = replace(manifest.roles["denoiser"], parameters=made, heads=heads)
    return replace(manifest, roles={**manifest.roles, "denoiser": denoiser})


@pytest.mark.parametrize(
    ("side", "evaluations", "measured"), [(64, 1, 61), (64, 2, 109), (128, 2, 1659)]
)
def test_the_estimate_for_the_demo_is_what_was_measured(
    manifest: Manifest, side: int, evaluations: int, measured: int
) -> None:
    """Megabytes by which a process grew."""
    found = call_room(None, manifest).wanted(side, side, evaluations)
    assert found == pytest.approx(measured * 2**20, rel=0.15)


def test_memory_grows_with_the_evaluations_and_faster_than_the_latents() -> None:
    room = CallRoom(100, 8)
    assert room.wanted(32, 32, 6) == 3 * room.wanted(32, 32, 2)
    assert room.wanted(16, 64, 2) == room.wanted(32, 32, 2)
    assert room.wanted(64, 64, 1) > 8 * room.wanted(32, 32, 1)
    assert CallRoom(100).wanted(64, 64, 1) == 4 * CallRoom(100).wanted(32, 32, 1)


def test_heads_of_an_older_package_are_of_the_usual_width(manifest: Manifest) -> None:
    shapes = {"conv_in__weight": (320, 4, 3, 3), "d__attn1__to_q__weight": (640, 640)}
    stated = call_room(None, with_denoiser(manifest, 10, **shapes))
    assert stated == call_room(None, with_denoiser(manifest, None, **shapes))
    fewer = call_room(None, with_denoiser(manifest, 5, **shapes))
    assert fewer.bytes_per_pair * 2 == stated.bytes_per_pair


def test_a_transformer_s_width_is_shared_by_the_latents_of_a_token(manifest: Manifest) -> None:
    room = call_room(None, with_denoiser(manifest, 24, blocks__0__to_q__weight=(3072, 3072)))
    unet = call_room(None, with_denoiser(manifest, 24, conv_in__weight=(768, 4, 3, 3)))
    assert room.bytes_per_latent == unet.bytes_per_latent


def test_a_target_keeps_no_scores(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "manifest.json").write_bytes((ENGINES / "demo" / "manifest.json").read_bytes())
    room = call_room(add_target(tmp_path, Made()), manifest)
    assert not room.bytes_per_pair
    assert 0 < room.bytes_per_latent <= call_room(None, manifest).bytes_per_latent
