"""AUTOMATIC1111's API by a client that its users have, unmodified, against a real server."""

import json
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import httpx
import pytest
import webuiapi
from PIL import Image

from api.a1111.errors import PREFIXES
from api.a1111.neutral import IGNORED, IGNORED_SETTINGS
from api.dialects import Dialects
from api.settings import flag, read_settings
from runtime.plan.sampling.titles import SAMPLER_TITLES
from tests.api.a1111_bodies import BODIES, REFUSED
from tests.api.live import Api, LiveServer
from tests.api.paper import paper_document
from tests.places import ROOT

LONG: dict[str, Any] = {"width": 512, "height": 512, "steps": 100}
SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 2, "prompt": "a red apple"}


@pytest.fixture
def client(server: LiveServer) -> webuiapi.WebUIApi:
    return webui(server)


def webui(server: LiveServer, **options: Any) -> webuiapi.WebUIApi:
    """The client, pointed at a server as its users do."""
    return webuiapi.WebUIApi(baseurl=f"{server.url}/sdapi/v1", **options)


def test_a_seed_gives_the_picture_that_it_gives_by_our_own_api(
    client: webuiapi.WebUIApi, api: Api
) -> None:
    result = client.txt2img(**SMALL, seed=7, sampler_name="DPM++ 2M Karras", cfg_scale=5)
    ours = api.draw(seed=7, steps=2, sampler="dpm++_2m", schedule="karras", cfg_scale=5)
    assert b64decode(result.json["images"][0]) == ours
    assert "RNG: CPU" in result.info["infotexts"][0]
    assert result.info["all_seeds"] == [7]
    assert result.parameters["sampler_name"] == "DPM++ 2M Karras"


def test_pictures_of_one_request_have_seeds_that_follow(client: webuiapi.WebUIApi) -> None:
    together = client.txt2img(**SMALL, seed=2**32 - 2, n_iter=2, batch_size=2)
    assert together.info["all_seeds"] == [2**32 - 2, 2**32 - 1, 0, 1]
    assert len({image.tobytes() for image in together.images}) == 4
    alone = client.txt2img(**SMALL, seed=0)
    assert alone.image.tobytes() == together.images[2].tobytes()


def test_a_seed_of_minus_one_is_drawn_and_told(client: webuiapi.WebUIApi) -> None:
    drawn = client.txt2img(**SMALL, seed=-1)
    again = client.txt2img(**SMALL, seed=drawn.info["seed"])
    assert again.image.tobytes() == drawn.image.tobytes()


def test_pictures_that_are_not_sent_are_drawn_all_the_same(
    client: webuiapi.WebUIApi, api: Api
) -> None:
    result = client.txt2img(**SMALL, send_images=False, save_images=True)
    assert result.images == []
    newest = api.client.get("/api/images", params={"limit": 1}).json()["images"][0]
    assert newest["seed"] == result.info["seed"]


def test_the_progress_shows_a_picture_while_it_is_drawn(
    narrow_server: LiveServer, narrow: Api
) -> None:
    client = webui(narrow_server)
    idle = client.get_progress()
    assert (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0, 0, None)
    with ThreadPoolExecutor(1) as threads:
        drawing = threads.submit(client.txt2img, **LONG, prompt="a")
        seen = narrow.wait_until(lambda: (now := client.get_progress())["current_image"] and now)
        assert 0 < seen["progress"] < 1
        assert seen["eta_relative"] > 0
        assert seen["state"]["sampling_steps"] == 100
        with Image.open(BytesIO(b64decode(seen["current_image"]))) as preview:
            assert preview.size == (512, 512)
        unseen = client.custom_get("progress?skip_current_image=true", baseurl=True)
        assert unseen["current_image"] is None
        assert client.interrupt() == {}
        result = drawing.result(timeout=240)
    assert result.images == []
    assert client.get_progress()["state"]["job_count"] == 0


def test_the_lists_are_of_the_loaded_model(client: webuiapi.WebUIApi, api: Api) -> None:
    info = api.client.get("/api/info").json()
    assert [model["model_name"] for model in client.get_sd_models()] == ["tiny"]
    samplers = [sampler["name"] for sampler in client.get_samplers()]
    assert [SAMPLER_TITLES[name] for name in info["samplers"]] == samplers
    labels = {each["name"]: each["label"] for each in client.get_schedulers()}
    assert labels["automatic"] == "Automatic"
    assert (labels["karras"], labels["sgm_uniform"]) == ("Karras", "SGM Uniform")
    assert client.get_upscalers()[0]["name"] == "None"
    for empty in (client.get_loras(), client.get_sd_vae(), client.get_latent_upscale_modes()):
        assert empty == []
    assert client.get_scripts() == {"txt2img": [], "img2img": []}
    assert client.get_memory()["ram"]["free"] > 0
    assert api.client.get("/internal/ping").json() == {}


def test_the_settings_are_the_servers_own(client: webuiapi.WebUIApi) -> None:
    options = client.get_options()
    title = options["sd_model_checkpoint"]
    assert title == client.get_sd_models()[0]["title"]
    assert client.util_set_model("tiny") is None
    assert client.set_options({"sd_model_checkpoint": title, "sd_vae": "Automatic"}) == {}
    refused = client.set_options({"sd_model_checkpoint": "sd_xl_base_1.0"})
    assert "the server draws with one model, tiny" in refused["detail"]
    assert "override_settings" in client.set_options({"CLIP_stop_at_last_layers": 3})["detail"]


def test_png_info_reads_every_format(client: webuiapi.WebUIApi, api: Api) -> None:
    for form in ("png", "webp", "jpeg"):
        picture = api.draw(seed=9, output_format=form)
        sent = {"image": b64encode(picture).decode()}
        found = api.client.post("/sdapi/v1/png-info", json=sent).json()
        assert found["info"].startswith("a red apple\nNegative prompt: ")
        assert found["parameters"]["Prompt"] == "a red apple"
        assert (found["parameters"]["Seed"], found["parameters"]["Size-1"]) == ("9", "64")
        assert json.loads(found["items"]["calotype"])["seed"] == 9
    drawn = client.txt2img(**SMALL, seed=9)
    assert client.png_info(drawn.image).info == drawn.info["infotexts"][0]


def test_the_recipe_in_a_picture_draws_it_again(client: webuiapi.WebUIApi, api: Api) -> None:
    first = client.txt2img(
        **SMALL, seed=5, sampler_name="DPM++ 2M SDE", scheduler="Karras", cfg_scale=4
    )
    told = client.png_info(first.image).parameters
    again = client.txt2img(
        prompt=told["Prompt"],
        negative_prompt=told["Negative prompt"],
        steps=int(told["Steps"]),
        sampler_name=told["Sampler"],
        scheduler=told["Schedule type"],
        cfg_scale=float(told["CFG scale"]),
        seed=int(told["Seed"]),
        width=int(told["Size-1"]),
        height=int(told["Size-2"]),
    )
    assert again.image.tobytes() == first.image.tobytes()


@pytest.mark.parametrize("name", BODIES)
def test_the_bodies_of_known_clients_are_drawn(api: Api, name: str) -> None:
    answer = api.client.post("/sdapi/v1/txt2img", json=BODIES[name])
    assert answer.status_code == 200, answer.text
    with Image.open(BytesIO(b64decode(answer.json()["images"][0]))) as picture:
        assert picture.size == (BODIES[name]["width"], BODIES[name]["height"])


@pytest.mark.parametrize(("field", "value", "where", "words"), REFUSED)
def test_what_would_change_the_picture_is_refused_by_name(
    api: Api, field: str, value: object, where: str, words: str
) -> None:
    answer = api.client.post("/sdapi/v1/txt2img", json={**SMALL, field: value})
    error = spelled(answer, 422)
    assert f"{where}: " in error["errors"]
    assert words in error["errors"]


def test_what_changes_nothing_is_ignored_and_listed(api: Api) -> None:
    body = {**SMALL, "seed": 4, **dict.fromkeys(IGNORED, 1)}
    settings = dict.fromkeys(IGNORED_SETTINGS, 1)
    answer = api.client.post("/sdapi/v1/txt2img", json={**body, "override_settings": settings})
    plain = api.client.post("/sdapi/v1/txt2img", json={**SMALL, "seed": 4})
    assert answer.json()["images"] == plain.json()["images"]
    listed = (ROOT / "docs" / "clients.md").read_text()
    assert [name for name in (*IGNORED, *IGNORED_SETTINGS) if f"`{name}`" not in listed] == []


@pytest.mark.parametrize(
    "value",
    ['"\\ud800"', "1e999", "9" * 400, '{"a": ["\\udfff"]}', '{"\\ud800": 1}', "[" * 90 + "]" * 90],
)
def test_no_value_of_an_ignored_field_is_a_fault_of_ours(api: Api, value: str) -> None:
    """The answer repeats the body."""
    fields = "".join(f', "{name}": {value}' for name in IGNORED)
    answer = api.client.post(
        "/sdapi/v1/txt2img",
        content=json.dumps(SMALL)[:-1] + fields + "}",
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code in {200, 400, 422}, answer.text


def test_the_api_can_be_taken_away() -> None:
    document = paper_document(Dialects(a1111=False))
    assert [path for path in document["paths"] if path.startswith(PREFIXES)] == []
    assert read_settings({"a1111_api": "false"}).a1111_api is False
    assert flag("a1111_api") == "--no-a1111-api"


def test_every_error_has_the_form_that_clients_read(api: Api) -> None:
    client = api.client
    assert "field" not in spelled(client.post("/sdapi/v1/txt2img", content=b"{"), 415)
    declared = {"Content-Type": "application/json"}
    spelled(client.post("/sdapi/v1/txt2img", content=b"{", headers=declared), 400)
    spelled(client.post("/sdapi/v1/txt2img", content=b"x" * 2**21, headers=declared), 413)
    assert "/sdapi/v1/img2img" in spelled(client.post("/sdapi/v1/img2img", json={}), 404)["detail"]
    wrong = spelled(client.get("/sdapi/v1/txt2img"), 405)
    assert "GET is not possible" in wrong["detail"]
    foreign = {"Origin": "https://other.example"}
    spelled(client.post("/sdapi/v1/interrupt", headers=foreign), 403)
    for image in ("http://127.0.0.1/x.png", "!", b64encode(b"no picture").decode(), 5):
        spelled(client.post("/sdapi/v1/png-info", json={"image": image}), 422)
    head = client.head("/sdapi/v1/nothing")
    assert (head.status_code, head.content) == (404, b"")


def spelled(answer: httpx.Response, status: int) -> dict[str, str]:
    """The error in an answer, in the form of AUTOMATIC1111's API."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, str] = answer.json()
    assert set(error) == {"error", "detail", "body", "errors"}
    assert error["detail"]
    assert error["errors"]
    return error
