"""Every command of the README: it is run, or its reason not to be stands in a table here."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.live import CALOTYPE, LiveServer, Options, clean_environment
from tests.places import ENGINES, ROOT
from tests.test_readme import LINES as BUILD_LINES

TEXT = (ROOT / "README.md").read_text()
PROGRAMS = ("make ", "curl ", ".venv/bin/")
COMMENT = re.compile(r"\s+# .*")
NETWORK = "asks a registry"
MINE = "needs a checkpoint that is built into the package `mine`"
NOT_RUN = {
    '.venv/bin/pip install -c constraints.txt -e ".[build]"': NETWORK,
    '.venv/bin/pip install -c constraints.txt -e ".[build,tensorrt]"': NETWORK,
    ".venv/bin/calotype serve --host 0.0.0.0": "opens the machine to its network",
    ".venv/bin/calotype serve --model mine": MINE,
    ".venv/bin/calotype serve --model mine --compile": MINE,
    ".venv/bin/calotype serve --model mine --gpus all": MINE,
}


def commands() -> Iterator[str]:
    """The commands of the indented blocks, without comments; one may take several lines."""
    unfinished = ""
    for line in TEXT.splitlines():
        begins = line.startswith(tuple(f"    {program}" for program in PROGRAMS))
        if not (unfinished or begins):
            continue
        unfinished += f"{COMMENT.sub('', line).strip()}\n"
        try:
            shlex.split(unfinished)
        except ValueError:
            continue  # Within quotes, or behind a backslash.
        if not unfinished.endswith("\\\n"):
            yield unfinished.strip()
            unfinished = ""


ALL = list(commands())
CURL = [each for each in ALL if each.startswith("curl ")]
MAKE = [each for each in ALL if each.startswith("make ")]
CALOTYPE_LINES = [
    each for each in ALL if each.startswith(".venv/bin/calotype ") and each not in NOT_RUN
]


@pytest.fixture(scope="module")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of the demo, as `make serve` starts it."""
    with LiveServer(Options(ENGINES, tmp_path_factory.mktemp("readme"), "demo")) as running:
        yield running


def test_every_command_is_run_or_has_its_reason() -> None:
    build = {f".venv/bin/engine-build {COMMENT.sub('', line)}" for line in BUILD_LINES}
    assert set(ALL) == {*CURL, *MAKE, *CALOTYPE_LINES, *build, *NOT_RUN}
    assert min(len(CURL), len(MAKE), len(CALOTYPE_LINES), len(build)) > 1


@pytest.mark.parametrize("command", MAKE)
def test_make_knows_the_target(command: str) -> None:
    ended = subprocess.run(
        [*shlex.split(command), "-n"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("command", CURL)
def test_curl_gets_what_it_asks_for(command: str, demo_server: LiveServer) -> None:
    job_id = demo_server.api.submit()
    command = command.replace("localhost:8000", demo_server.url).replace("JOB_ID", job_id)
    ended = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert re.search('"status": ?"completed"', ended.stdout)


@pytest.mark.parametrize("command", CALOTYPE_LINES)
def test_calotype_does_it(command: str, tmp_path: Path) -> None:
    arguments = shlex.split(command)[1:]
    ended = subprocess.run(
        [CALOTYPE, *arguments],
        cwd=tmp_path,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    if "-o" in arguments:
        assert (tmp_path / arguments[arguments.index("-o") + 1]).stat().st_size > 1000


def test_the_python_snippet_draws_a_picture(demo_server: LiveServer, tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    namespace: dict[str, object] = {"__name__": "snippet"}
    snippet = snippet.replace("http://localhost:8000", demo_server.url)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        exec(snippet, namespace)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "preview.jpg").read_bytes().startswith(b"\xff\xd8")
