"""Whether fp16 holds what a network computes, asked of the network."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine_build import activations
from engine_build.activations import check_range, largest_activation
from engine_build.capture import captured_calls
from engine_build.targets import Wanted
from engine_build.tensorrt.profiles import Served
from runtime.errors import BuildError
from runtime.manifest import load_package

ENGINES = Path(__file__).parents[2] / "engines"
WANTED = Wanted("tensorrt-rtx", "sm_89", Served(((64, 96),), 1), precision="fp16")


def test_the_largest_activation_is_at_least_what_a_layer_is_known_to_answer() -> None:
    """The VAE's last convolution is one that 16 bits could hold; its picture goes from -1 to 1."""
    package = load_package(ENGINES, "demo")
    calls = captured_calls(ENGINES, "demo", [(64, 64)])
    graph = package.file(package.manifest.roles["vae_decoder"].graph)
    largest = largest_activation(graph, package.path, calls["vae_decoder"])
    assert 1 < largest < 1e4


def test_a_network_that_comes_near_the_end_of_fp16_is_refused(
    tiny_flux_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = load_package(tiny_flux_package, "tiny_flux")
    check_range(tiny_flux_package, package, WANTED)
    # As if fp16 ended earlier: small networks of random weights stay small.
    monkeypatch.setattr(activations, "LARGEST_FP16", 1.0)
    with pytest.raises(BuildError, match=r"--precision fp16: activations of .* reach .* bf16"):
        check_range(tiny_flux_package, package, WANTED)


def test_only_fp16_in_place_of_bf16_is_a_question(tmp_path: Path) -> None:
    """Nothing is drawn: the package's weights are not even there."""
    package = load_package(ENGINES, "demo")
    check_range(tmp_path, package, WANTED)
    check_range(tmp_path, package, replace(WANTED, precision="bf16"))
