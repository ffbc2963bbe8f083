"""The lines of docs/clients.md, as one types them: Python's by the real libraries, and curl's."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.live import LiveServer, Options
from tests.places import ENGINES, ROOT

PAGE = (ROOT / "docs" / "clients.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LARGE = ("from litellm", "from langchain")
"""Beginnings of those that `test_large_clients.py` runs."""
OURS = [each for each in SNIPPETS if not each.startswith(LARGE)]
CURL = re.findall(r"^    (curl .*\\\n.*)$", PAGE, re.MULTILINE)

ANSWERS = ('"images":["', '"url":"http://', "event: image_generation.completed")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of the demo, as `make serve` starts it."""
    with LiveServer(Options(ENGINES, tmp_path_factory.mktemp("page"), "demo")) as running:
        yield running


def test_python_draws_by_the_lines_of_the_page(
    demo: LiveServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the order of the page: some go on with what others began."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "snippet"}
    port = demo.url.rpartition(":")[2]
    for snippet in OURS:
        exec(snippet.replace("8000", port), namespace)
    assert (tmp_path / "heart.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"http://localhost:{port}/api/images/")
    assert printed[-1].startswith("image_generation.completed ")
    newest = demo.api.client.get("/api/images").json()["images"]
    assert [each["prompt"] for each in newest] == [
        "a green car on a yellow background",
        "a cat",
        *["a red heart on a blue background"] * 2,
        "a red heart",
    ]


@pytest.mark.parametrize(("command", "answer"), [*zip(CURL, ANSWERS, strict=True)])
def test_curl_draws_by_the_lines_of_the_page(demo: LiveServer, command: str, answer: str) -> None:
    command = command.replace("localhost:8000", demo.url)
    ended = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert answer in ended.stdout
