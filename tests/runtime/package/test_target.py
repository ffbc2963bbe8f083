"""Targets on disk: sealed, named after all that makes them what they are, told apart by name."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from runtime.errors import PackageError
from runtime.package import hashes
from runtime.package.engine_record import EngineCheck, Variant
from runtime.package.file_record import FileRecord
from runtime.package.hashes import KnownHashes
from runtime.package.manifest import read_manifest
from runtime.package.sealed import seal
from runtime.package.target import (
    FOLDER,
    TARGET_NAME,
    Range,
    Target,
    TargetIdentity,
    differences,
    read_target,
    stale_parts,
    target_directories,
    weights_sha256,
)
from tests.places import ENGINES
from tests.runtime.package.targets import Made, add_target


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """Of the demo's package, whose manifest alone is there."""
    shutil.copy(ENGINES / "demo" / "manifest.json", tmp_path)
    return add_target(tmp_path, Made())


def with_engine(identity: TargetIdentity, role: str, **changes: Any) -> TargetIdentity:
    engine = replace(identity.engines[role], **changes)
    return replace(identity, engines={**identity.engines, role: engine})


CHANGES: dict[str, tuple[str | None, dict[str, Any], str]] = {
    "backend": (None, {"backend": "tensorrt-rtx"}, "backend is tensorrt-rtx, expected tensorrt"),
    "version": (
        None,
        {"backend_version": "10.16.1"},
        "backend version is 10.16.1, expected 11.4.0",
    ),
    "GPU": (None, {"compute_capability": "sm_90"}, "GPU is sm_90, expected sm_89"),
    "graph": ("denoiser", {"graph_sha256": "0"}, "denoiser was compiled from another graph"),
    "weights": ("denoiser", {"weights_sha256": "0"}, "denoiser was compiled from other weights"),
    "precision": ("denoiser", {"precision": "bf16"}, "denoiser computes in bf16, expected fp16"),
    "profiles": (
        "vae_decoder",
        {"profiles": ({"batch": Range(1, 1, 9)},)},
        "vae_decoder takes other sizes or batches",
    ),
    "weights to replace": (
        "denoiser",
        {"refittable": ("x",)},
        "denoiser lets other weights be replaced",
    ),
    "flags": (
        "denoiser",
        {"flags": ("TF32",)},
        "denoiser was compiled with the flags TF32, expected none",
    ),
}


@pytest.mark.parametrize(("role", "changes", "said"), CHANGES.values(), ids=CHANGES)
def test_whatever_changes_an_engine_changes_the_name_and_is_told(
    target: Target, role: str | None, changes: dict[str, Any], said: str
) -> None:
    wanted = target.record.identity
    changed = replace(wanted, **changes) if role is None else with_engine(wanted, role, **changes)
    assert changed.digest != wanted.digest
    assert changed.name != wanted.name
    assert differences(changed, wanted) == [said]
    assert differences(wanted, wanted) == []


def test_a_missing_engine_is_told(target: Target) -> None:
    wanted = target.record.identity
    without = {role: engine for role, engine in wanted.engines.items() if role != "vae_decoder"}
    found = replace(wanted, engines=without)
    assert differences(found, wanted) == ["it has no engine for vae_decoder"]


def test_a_name_tells_people_what_a_target_is_for(target: Target) -> None:
    assert target.name.startswith("tensorrt-11.4.0-sm_89-fp16-")
    assert list(target_directories(target.path.parents[1])) == [target.path]


def test_a_target_of_files_that_have_changed_is_stale_by_name(target: Target) -> None:
    manifest, _ = read_manifest(ENGINES / "demo")
    assert stale_parts(target.record, manifest) == []
    changed = FileRecord("0" * 64, 1)
    graph = replace(manifest, files={**manifest.files, "denoiser.onnx": changed})
    assert stale_parts(target.record, graph) == ["denoiser was compiled from another graph"]
    weights = replace(manifest, files={**manifest.files, "vae_decoder.safetensors": changed})
    assert stale_parts(target.record, weights) == ["vae_decoder was compiled from other weights"]
    roles = {role: record for role, record in manifest.roles.items() if role != "text_encoder"}
    assert stale_parts(target.record, replace(manifest, roles=roles)) == [
        "the package has no text_encoder any more"
    ]


def test_a_target_that_lacks_its_variants_is_stale_by_name(tmp_path: Path) -> None:
    """As those of onnxruntime-cuda that an older version compiled."""
    shutil.copytree(ENGINES / "demo", tmp_path / "demo")
    manifest, _ = read_manifest(tmp_path / "demo")
    whole = add_target(tmp_path / "demo", Made(backend="onnxruntime-cuda"))
    assert stale_parts(whole.record, manifest) == []
    engines = {role: replace(each, variants={}) for role, each in whole.record.engines.items()}
    assert stale_parts(replace(whole.record, engines=engines), manifest) == [
        f"{role} was compiled by an older version, without its graphs for LoRAs"
        for role in ("denoiser", "text_encoder", "text_encoder_2")
    ]
    fixed = add_target(tmp_path / "demo", Made(backend="onnxruntime-cuda", fixed_weights=True))
    assert not any(each.variants for each in fixed.record.engines.values())
    assert stale_parts(fixed.record, manifest) == []


def test_a_record_without_variants_reads_as_it_did(target: Target) -> None:
    """As an older version wrote every record, with no prelude either."""
    path = target.path / TARGET_NAME
    content = json.loads(path.read_bytes())
    for engine in content["engines"].values():
        del engine["variants"], engine["prelude"]
    del content["digest"]
    path.write_bytes(seal(TypeAdapter(dict[str, Any]), content))
    assert read_target(target.path).record == target.record


def test_every_file_of_an_engine_is_checked(tmp_path: Path) -> None:
    shutil.copytree(ENGINES / "demo", tmp_path / "demo")
    target = add_target(tmp_path / "demo", Made(backend="onnxruntime-cuda"))
    assert [target.fault(role) for role in target.record.engines] == [None] * 5
    target.variant("denoiser", "weights").write_bytes(b"damaged")
    assert "denoiser.weights.onnx: 7 bytes, expected" in (target.fault("denoiser") or "")
    target.engine("denoiser").unlink()
    assert "denoiser.onnx: gone" in (target.fault("denoiser") or "")


def test_a_file_of_an_engine_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "SETTLED_NS", 0)
    shutil.copytree(ENGINES / "demo", tmp_path / "demo")
    target = add_target(tmp_path / "demo", Made(backend="onnxruntime-cuda"))
    assert target.fault("denoiser") is None
    monkeypatch.setattr(KnownHashes, "read", None)
    assert target.fault("denoiser") is None
    os.utime(target.engine("denoiser"))
    with pytest.raises(TypeError):  # from the attempt to read
        target.fault("denoiser")


@pytest.mark.parametrize("variant", [None, "matrices", "weights"])
def test_every_file_of_a_prelude_is_checked(variant: Variant | None, tmp_path: Path) -> None:
    shutil.copytree(ENGINES / "demo", tmp_path / "demo")
    target = add_target(tmp_path / "demo", Made(backend="onnxruntime-cuda"))
    path = target.prelude("denoiser", variant)
    assert path is not None
    path.unlink()
    assert f"{path.name}: gone" in (target.fault("denoiser") or "")
    assert target.prelude("vae_decoder", variant) is None


def test_weights_that_were_left_in_place_are_known_by_all_their_files() -> None:
    manifest, _ = read_manifest(ENGINES / "demo")
    role = replace(manifest.roles["denoiser"], weights=None, external_folder="/models/unet")
    files = {
        "/models/unet/1.safetensors": FileRecord("a", 1),
        "/models/unet/2.safetensors": FileRecord("b", 1),
        "/models/vae/1.safetensors": FileRecord("c", 1),
    }
    whole = weights_sha256(role, replace(manifest, external_files=files))
    other_vae = {**files, "/models/vae/1.safetensors": FileRecord("d", 1)}
    assert weights_sha256(role, replace(manifest, external_files=other_vae)) == whole
    other_unet = {**files, "/models/unet/2.safetensors": FileRecord("d", 1)}
    assert weights_sha256(role, replace(manifest, external_files=other_unet)) != whole


@pytest.mark.parametrize(
    ("check", "verified"),
    [
        (None, False),
        (EngineCheck(1e-3, 1e-2, {}), True),
        (EngineCheck(2e-2, 1e-2, {}), False),
        (EngineCheck(1e-3, 1e-2, {}, refit_error=1e-3), True),
        (EngineCheck(1e-3, 1e-2, {}, refit_error=2e-2), False),
    ],
)
def test_only_what_passed_every_check_is_verified(
    tmp_path: Path, check: EngineCheck | None, verified: bool
) -> None:
    shutil.copy(ENGINES / "demo" / "manifest.json", tmp_path)
    assert add_target(tmp_path, Made(check=check)).record.verified is verified


def test_a_damaged_record_is_refused_with_the_remedy(target: Target) -> None:
    record = target.path / "target.json"
    record.write_text(record.read_text().replace("sm_89", "sm_90", 1))
    with pytest.raises(PackageError, match=r"damaged, its digest does not fit; remove its folder"):
        read_target(target.path)
    record.unlink()
    with pytest.raises(PackageError, match=r"no target\.json, so this is no finished target"):
        read_target(target.path)
    assert not list(target_directories(target.path.parents[1]))
    assert (target.path.parents[1] / FOLDER).is_dir()
