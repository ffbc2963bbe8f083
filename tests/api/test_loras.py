"""LoRAs over HTTP, on the committed demo model."""

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine_build.cli import run
from runtime.package.manifest import read_package
from tests.api.conftest import Starter
from tests.api.live import Api, LiveServer, Options, refused, small
from tests.tiny.lora_files import LoraWriter
from tests.tiny.wide_demo import widen

PLACE = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"


@pytest.fixture(scope="module")
def api(lora_engines: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    data = tmp_path_factory.mktemp("data")
    with LiveServer(Options(lora_engines, data, "demo")) as running:
        yield running.api


def use(identity: str, weight: float = 1.0) -> list[dict[str, Any]]:
    return [{"id": identity, "weight": weight}]


def test_interleaved_requests_give_the_pictures_that_they_give_alone(api: Api) -> None:
    wishes: list[dict[str, Any]] = [
        {"seed": seed, "steps": 3 + seed % 3, "loras": loras}
        for seed, loras in enumerate(
            [[], use("lora0"), [], use("lora3"), use("lora0"), use("lora0", 0.5), use("lora5"), []]
        )
    ]
    alone = [api.draw(**wish) for wish in wishes]
    jobs = [api.submit(**wish) for wish in wishes]
    together = [api.picture(api.finish(job_id)) for job_id in jobs]
    assert together == alone
    assert len(set(alone)) == len(alone)


def test_a_lora_changes_the_picture_and_at_weight_0_does_not(api: Api) -> None:
    without = api.draw(seed=1)
    assert api.draw(seed=1, loras=use("lora1")) != without
    faint = api.finish(api.submit(seed=1, loras=use("lora1", 0.0)))
    # The recipe inside names the LoRA, the pixels do not know it.
    assert _pixels(api.picture(faint)) == _pixels(without)


@pytest.mark.parametrize(
    ("loras", "pointer", "detail"),
    [
        (use("lora9"), "/loras/0/id", "no LoRA that this model has: lora0, lora1"),
        (use("lora0", 2.5), "/loras/0/weight", "2.5 is more than the maximum, 2"),
        (use("lora0", -3), "/loras/0/weight", "-3 is less than the minimum, -2"),
        ([*use("lora0"), *use("lora0")], "/loras/1/id", "'lora0' is named twice"),
    ],
)
def test_a_wrong_lora_is_refused_by_name(
    api: Api, loras: list[dict[str, Any]], pointer: str, detail: str
) -> None:
    answer = api.client.post("/api/generate", json=small(loras=loras))
    (error,) = refused(answer, 422)["errors"]
    assert error["pointer"] == pointer
    assert detail in error["detail"]


def test_a_pack_comes_and_goes_while_the_server_runs(
    lora_engines: Path, tmp_path: Path, start: Starter
) -> None:
    engines = tmp_path / "engines"
    shutil.copytree(lora_engines / "demo", engines / "demo")
    shutil.rmtree(engines / "demo" / "loras")
    widen(engines / "demo")
    api = start(Options(engines, tmp_path / "data", "demo", ("--max-batch", "1"))).api
    without = api.draw(seed=5)
    assert _listed(api) == []
    answer = api.client.post("/api/generate", json=small(loras=use("ink")))
    assert "this model has no LoRA packs" in refused(answer, 422)["detail"]

    where = ["--model", "demo", "--engines", str(engines)]
    run(["lora", "add", str(_file(engines)), *where, "--id", "ink", "--trigger", "wash"])
    assert [offer["triggers"] for offer in _listed(api)] == ["wash"]
    assert '"const":"ink"' in api.client.get("/openapi.json").text
    drawn = api.draw(seed=5, loras=use("ink"))
    assert drawn != without
    assert api.draw(seed=5, loras=use("ink")) == drawn

    body, once = small(seed=5, loras=use("ink")), {"Idempotency-Key": "once"}
    accepted = api.client.post("/api/generate", json=body, headers=once).json()["job_id"]
    api.finish(accepted)
    busy = api.occupy()
    waiting = api.submit(seed=5, loras=use("ink"))
    run(["lora", "remove", "ink", *where])
    assert _listed(api) == []
    api.cancel(busy)
    failed = api.finish(waiting)
    assert failed["status"] == "failed"
    assert "loras" in failed["error"]["detail"]
    assert "this model has no LoRA packs" in failed["error"]["detail"]
    assert api.draw(seed=5) == without
    # What was accepted and drawn stays so for its key.
    replay = api.client.post("/api/generate", json=body, headers=once)
    assert (replay.status_code, replay.json()["job_id"]) == (202, accepted)
    assert replay.json()["status"] == "completed"


def _listed(api: Api) -> list[dict[str, Any]]:
    offers: list[dict[str, Any]] = api.client.get("/api/info").json()["loras"]
    return offers


def _file(engines: Path) -> Path:
    parameters = read_package(engines, "demo").manifest.roles["denoiser"].parameters
    writer = LoraWriter()
    writer.lora(PLACE, parameters[f"{PLACE}.weight"].shape, 2, 2.0)
    return writer.save(engines / "file.safetensors")


def _pixels(picture: bytes) -> bytes:
    with Image.open(BytesIO(picture)) as image:
        return image.tobytes()
