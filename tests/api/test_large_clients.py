"""LiteLLM and LangChain, unmodified, by the lines of docs/clients.md; `make clients` has them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.live import LiveServer, Options, clean_environment
from tests.places import ENGINES, ROOT

PAGE = (ROOT / "docs" / "clients.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(PROXY,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
ADDRESS = "http://localhost:8000"

LITELLM_ERRORS = """
import json, sys
import litellm

tried = (("size", "100x128"), ("model", "openai/dall-e-3"), ("n", 11), ("quality", "hd"))
told = {}
for field, value in tried:
    fields = {"model": "openai/demo", "prompt": "a red heart", field: value}
    try:
        litellm.image_generation(api_base=sys.argv[1] + "/v1", api_key="none", **fields)
        told[field] = "drawn"
    except Exception as error:
        told[field] = type(error).__name__
print(json.dumps(told))
"""


LITELLM_ROUTER = """
import sys
import litellm, yaml

router = litellm.Router(model_list=yaml.safe_load(sys.argv[1])["model_list"], num_retries=0)
print(len(router.image_generation(model="demo", prompt="a red heart").data[0].b64_json))
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(Options(ENGINES, tmp_path_factory.mktemp("clients"), "demo")) as running:
        yield running


def folder(name: str) -> Path:
    """The folder that a client is installed in; the test is skipped where there is none."""
    clients = os.environ.get("CLIENTS")
    if not clients:
        pytest.skip("LiteLLM and LangChain take 620 MB; `make clients` installs and tries them")
    return Path(clients) / name


def run(client: str, script: str, *arguments: str) -> str:
    """The lines that a script prints by a client's own packages."""
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={
            **clean_environment(),
            "PYTHONPATH": str(folder(client)),
            "LITELLM_LOCAL_MODEL_COST_MAP": "true",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()[-1]


def snippet(word: str, server: LiveServer) -> str:
    """The lines of the page that import this."""
    (lines,) = (each for each in SNIPPETS if f"from {word}" in each)
    assert ADDRESS in lines
    return lines.replace(ADDRESS, server.url)


def test_litellm_draws_by_the_lines_of_the_page(demo: LiveServer) -> None:
    sizes = json.loads(run("litellm", snippet("litellm", demo)))
    newest = demo.api.client.get("/api/images", params={"limit": 2}).json()["images"]
    assert sorted(sizes) == sorted(4 * -(-each["size_bytes"] // 3) for each in newest)
    assert {each["seed"] for each in newest} == {42, 43}


def test_the_router_of_litellms_proxy_takes_the_lines_of_the_page(demo: LiveServer) -> None:
    """The proxy's own server is more to install; it hands its requests to this router."""
    assert int(run("litellm", LITELLM_ROUTER, PROXY.replace(ADDRESS, demo.url))) > 1000


def test_litellm_has_its_own_exceptions_for_our_errors(demo: LiveServer) -> None:
    assert json.loads(run("litellm", LITELLM_ERRORS, demo.url)) == {
        "size": "BadRequestError",
        "model": "NotFoundError",
        "n": "BadRequestError",
        "quality": "drawn",
    }


def test_langchains_tool_answers_with_an_address(demo: LiveServer) -> None:
    address = run("langchain", snippet("langchain", demo))
    assert httpx.get(address).content.startswith(b"\x89PNG")
