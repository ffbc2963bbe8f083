"""A server that may take little memory for drawing says what it draws, and refuses the rest."""

from pathlib import Path

from tests.api.conftest import Starter
from tests.api.live import Options
from tests.tiny.wide_demo import demo_of_all_sizes


def test_sizes_that_never_fit_are_listed_and_refused(tmp_path: Path, start: Starter) -> None:
    engines = demo_of_all_sizes(tmp_path / "engines")
    flags = ("--draw-memory-mb", "64", "--backend", "onnxruntime-cpu")
    server = start(Options(engines, tmp_path / "data", "demo", flags))
    sizes = server.api.client.get("/api/info").json()["engine"]["sizes"]
    square = sizes[0]
    assert square["max_width"] == square["max_height"] < 1024
    body = {"prompt": "a red heart", "width": 1024, "height": 1024}
    refusal = server.api.client.post("/api/generate", json=body)
    assert refusal.status_code == 422
    [fault] = refusal.json()["errors"]
    side = square["max_width"]
    assert "drawing may take 0.07 GB on this machine" in fault["detail"]
    assert f"what fits is (64 to {side})x(64 to {side}), " in fault["detail"]
    document = server.api.client.get("/openapi.json").json()
    content = document["paths"]["/api/generate"]["post"]["requestBody"]["content"]
    examples = content["application/json"]["examples"]
    assert list(examples) == ["The prompt alone"]
    fits = {"width": side, "height": side, "steps": 1}
    assert server.api.finish(server.api.submit(**fits))["status"] == "completed"
