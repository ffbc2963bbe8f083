"""Descriptions of packages whose manifests lack something that others have."""

from dataclasses import replace
from pathlib import Path

from engine_build.package.report import describe, table
from runtime.package.manifest import GraphCheck, Manifest, Source, read_package, write_manifest
from tests.tiny.manifests import MANIFEST, with_defaults


def written(engines: Path, manifest: Manifest) -> Path:
    (engines / "paper").mkdir()
    write_manifest(engines / "paper", replace(manifest, roles={}, files={}))
    return engines


def test_a_model_without_guidance_has_none(tmp_path: Path) -> None:
    engines = written(tmp_path, with_defaults(cfg_scale=None))
    _, row = table(engines).splitlines()
    assert row.split()[:6] == ["paper", "sdxl", "128x128", "20", "-", "euler_a"]
    assert "20 steps, euler_a, default, cfg -\n" in describe(read_package(engines, "paper"))


def test_the_origin_is_told(tmp_path: Path) -> None:
    source = Source("hugging face", "owner/paper", "0123abcd", "f" * 64)
    shown = describe(read_package(written(tmp_path, replace(MANIFEST, source=source)), "paper"))
    for words in ("hugging face: owner/paper", "0123abcd", "f" * 64):
        assert words in shown


def test_a_check_at_reduced_size_is_told(tmp_path: Path) -> None:
    (tmp_path / "paper").mkdir()
    role = MANIFEST.roles["denoiser"]
    check = GraphCheck(0.0, 1e-4, {}, reduced={"random weights": {"num_layers": 2}})
    for checked, words in ((role.check, "whole"), (check, "at reduced size")):
        roles = {"denoiser": replace(role, check=checked)}
        write_manifest(tmp_path / "paper", replace(MANIFEST, roles=roles, files={}))
        assert words in describe(read_package(tmp_path, "paper"))
