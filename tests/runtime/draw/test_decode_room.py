"""The memory of a decoding, and the sizes that an engine takes."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.draw.decode_room import DecodeRoom, decode_room, free_bytes
from runtime.machine import available_bytes
from runtime.package.manifest import Manifest, Parameter, load_package, read_manifest
from runtime.package.target import Target
from tests.places import ENGINES
from tests.runtime.package.targets import Made, add_target

SIZES = ((1024, 1024), (512, 512))


@pytest.fixture
def manifest() -> Manifest:
    return read_manifest(ENGINES / "demo")[0]


def with_vae(manifest: Manifest, **parameters: tuple[int, ...]) -> Manifest:
    """The manifest with a VAE of these parameters alone; `__` stands for a dot."""
    made = {
        name.replace("__", "."): Parameter(name, shape, "F32") for name, shape in parameters.items()
    }
    vae = replace(manifest.roles["vae_decoder"], parameters=made)
    return replace(manifest, roles={**manifest.roles, "vae_decoder": vae})


def test_memory_grows_with_the_pixels_and_with_the_channels(manifest: Manifest) -> None:
    demo = decode_room(None, manifest)
    assert (demo.scale, demo.usual) == (8, 128)
    # Measured: 680 MiB.
    assert demo.wanted(1024, 1024) == pytest.approx(680 * 2**20, rel=0.05)
    assert demo.wanted(512, 256) * 8 == demo.wanted(1024, 1024)
    wide = decode_room(None, with_vae(manifest, decoder__conv_out__weight=(3, 128, 3, 3)))
    assert wide.wanted(512, 512) == 8 * demo.wanted(512, 512)
    unnamed = decode_room(None, with_vae(manifest))
    assert unnamed.wanted(512, 512) == wide.wanted(512, 512)


def test_attention_on_the_cpu_takes_memory_for_each_pair_of_latents(manifest: Manifest) -> None:
    shapes = {
        "decoder__conv_out__weight": (3, 8, 3, 3),
        "decoder__mid_block__attentions__0__to_q__weight": (16, 16),
    }
    room = decode_room(None, with_vae(manifest, **shapes))
    # Measured: 143 MiB and 2134 MiB.
    assert room.wanted(512, 512) == pytest.approx(143 * 2**20, rel=0.15)
    assert room.wanted(1024, 1024) == pytest.approx(2134 * 2**20, rel=0.05)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    shutil.copytree(ENGINES / "demo", tmp_path / "demo", ignore=shutil.ignore_patterns("targets"))
    return add_target(tmp_path / "demo", Made(sizes=SIZES))


def test_a_target_takes_its_own_sizes_and_half_the_memory_in_16_bits(
    target: Target, manifest: Manifest
) -> None:
    room = decode_room(target, manifest)
    assert [room.takes(*size) for size in (*SIZES, (1024, 512), (256, 256))] == [1, 1, 0, 0]
    assert room.wanted(1024, 1024) < decode_room(None, manifest).wanted(1024, 1024)
    identity = target.record.identity
    narrow = replace(identity.engines["vae_decoder"], precision="fp16")
    engines = {**identity.engines, "vae_decoder": narrow}
    record = replace(target.record, identity=replace(identity, engines=engines))
    half = decode_room(replace(target, record=record), manifest)
    assert 0.4 < half.wanted(512, 512) / room.wanted(512, 512) < 0.6


def test_free_memory_is_the_device_s_with_what_is_given_back_or_the_machine_s() -> None:
    held = {"free": 700, "total": 9000, "LoRA bases": 300, "weights": 5000}
    backend: Any = SimpleNamespace(
        shortfalls=[],
        watch_trials=print,
        device_memory=lambda: held,
        uploaded_bytes=int,
    )
    assert free_bytes(backend) == 1000
    on_cpu = free_bytes(OnnxRuntimeCpu(load_package(ENGINES, "demo")))
    assert on_cpu is not None
    assert on_cpu == pytest.approx(available_bytes(), rel=0.5)


def test_every_size_is_taken_where_no_engine_was_compiled() -> None:
    assert DecodeRoom(8, 1024, 1.0).takes(2048, 72)
