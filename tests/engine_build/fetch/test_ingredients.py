"""Files that are fetched for a build, and their record in the manifest."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from engine_build.fetch.connection import Patience
from engine_build.fetch.ingredients import Ingredients, Order, fetch_ingredients
from engine_build.fetch.located import Fetching
from runtime.errors import SourceError
from tests.engine_build.fetch.civitai import VERSION, Published
from tests.engine_build.fetch.hub import COMMIT, publish
from tests.engine_build.fetch.server import Server

BASE = {
    "model_index.json": b'{"unet": ["diffusers", "UNet2DConditionModel"], '
    b'"vae": ["diffusers", "AutoencoderKL"]}',
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": b"weights that the single file holds",
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": b"weights that the single file lacks",
}
SINGLE_FILE = save(
    {
        "model.diffusion_model.input_blocks.0.0.weight": np.zeros((2, 4), np.float32),
        "model.diffusion_model.label_emb.0.0.weight": np.zeros((2, 4), np.float32),
        "conditioner.embedders.1.model.ln_final.weight": np.zeros(2, np.float32),
    }
)


@pytest.fixture(autouse=True)
def hosts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIVITAI_ENDPOINT", server.url)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    Published(SINGLE_FILE).on(server)
    publish(server, "owner/base", BASE)


def fetched(cache: Path, order: Order) -> Ingredients:
    fetching = Fetching(cache, Patience(attempts=1), show_progress=False)
    return fetch_ingredients(order, fetching)


@pytest.mark.parametrize(
    "order",
    [
        Order(f"civitai:{VERSION}", base="owner/base"),
        Order(f"civitai:{VERSION}", usual_base="owner/base"),
    ],
)
def test_a_base_comes_without_what_the_file_holds(tmp_path: Path, order: Order) -> None:
    found = fetched(tmp_path, order)
    assert found.source.read_bytes() == SINGLE_FILE
    assert found.base is not None
    assert (found.base / "unet" / "config.json").is_file()
    assert [path.parent.name for path in found.base.rglob("*.safetensors")] == ["vae"]
    assert found.origin.kind == "civitai"
    assert found.origin.reference == f"civitai:{VERSION}, with owner/base@{COMMIT}"
    assert found.origin.revision == str(VERSION)


def test_a_folder_needs_no_usual_base(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    found = fetched(tmp_path, Order(str(folder), usual_base="owner/base"))
    assert (found.source, found.base, found.origin.reference) == (folder, None, "folder")


@pytest.mark.parametrize("source", [f"civitai:{VERSION}", "http://127.0.0.1:1/a.safetensors"])
def test_a_single_file_is_not_fetched_in_vain(server: Server, tmp_path: Path, source: str) -> None:
    with pytest.raises(SourceError, match="name the diffusers folder"):
        fetched(tmp_path, Order(source))
    assert not server.requests


@pytest.mark.parametrize("field", ["base", "usual_base", "preview_decoder"])
def test_all_references_are_read_before_anything_is_fetched(
    server: Server, tmp_path: Path, field: str
) -> None:
    with pytest.raises(SourceError, match="no known scheme"):
        fetched(tmp_path, Order(**{"source": "owner/base", field: "ftp://nowhere"}))
    assert not server.requests
