"""`calotype gallery reindex`: the gallery's list is made anew from the files of its pictures."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from api.cli import main
from runtime.draw.infotext import infotext
from runtime.draw.recipe import encode_picture
from runtime.gallery import Gallery
from runtime.jobs.database_file import DATABASE
from runtime.jobs.names import new_job_id
from runtime.jobs.protocol import Job, JobStatus, Page
from runtime.plan.families.sdxl import Sdxl
from runtime.plan.parameters import parameters_schema
from runtime.plan.request import read_request
from tests.api.live import CALOTYPE, LiveServer, Options, clean_environment
from tests.fakes.small_disk import fill, small_disk
from tests.places import ENGINES, ROOT
from tests.runtime.draw.plans import paper_plan
from tests.runtime.jobs.support import Hand, open_broker, run, submit
from tests.runtime.jobs.test_damage import DAMAGES
from tests.tiny.manifests import MANIFEST

FACTS = Sdxl().facts(MANIFEST)
SCHEMA = parameters_schema(MANIFEST, FACTS)
NAMES = {"png": "png", "webp": "webp", "jpeg": "jpg"}

DIE_IN_THE_MIDDLE = """
import os, signal, sys
from api.cli import main
from runtime.jobs import reindex

reindex._put_in_order = lambda connection: os.kill(os.getpid(), signal.SIGKILL)
main(["gallery", "reindex", "--data", sys.argv[1]])
"""


def content(**fields: object) -> bytes:
    """A picture of 96 x 64 with its recipe."""
    body = {"prompt": "a red apple", "seed": 7, "steps": 4, **fields}
    request = read_request(body, SCHEMA)
    pixels = np.random.default_rng(request.seed).integers(0, 256, (64, 96, 3), np.uint8)
    return encode_picture(pixels, request, infotext(paper_plan(request), MANIFEST, FACTS)).content


def add(data: Path, number: int, output_format: str = "png", **fields: object) -> str:
    """Put a picture into the folder, made at that second; returns its name."""
    name = f"{new_job_id()}.{NAMES[output_format]}"
    Gallery(data).add_picture(name, content(seed=number, output_format=output_format, **fields))
    made = 1_700_000_000 + number
    os.utime(data / "images" / name, (made, made))
    return name


def reindex(data: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["gallery", "reindex", "--data", str(data)]) == 0
    return capsys.readouterr().out


def look(data: Path) -> Page:
    async def check() -> Page:
        async with open_broker(data) as broker:
            return await broker.images(200, None)

    return run(check())


def job(data: Path, job_id: str) -> Job:
    async def check() -> Job:
        async with open_broker(data) as broker:
            return await broker.job(job_id)

    return run(check())


@pytest.fixture
def lost(tmp_path: Path) -> tuple[Path, list[str]]:
    """A folder with a picture in each format, the oldest first, and no database."""
    return tmp_path, [add(tmp_path, number, each) for number, each in enumerate(NAMES, 1)]


def test_pictures_are_listed_from_their_recipes_in_the_order_of_their_making(
    lost: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    data, names = lost
    said = reindex(data, capsys)
    assert "3 pictures are listed: 0 were, 3 were added; 0 whose files are gone" in said
    listed = look(data).images
    assert [image.filename for image in listed] == names[::-1]
    for number, image in enumerate(reversed(listed), 1):
        assert (image.seed, image.prompt, image.model) == (number, "a red apple", MANIFEST.name)
        assert (image.width, image.height) == (96, 64)
        assert image.created_at.timestamp() == 1_700_000_000 + number
        assert image.size_bytes == (data / "images" / image.filename).stat().st_size
        assert image.job_id == image.filename.partition(".")[0]
        made = job(data, image.job_id)
        assert (made.status, made.image, made.total_steps) == (JobStatus.COMPLETED, image, 4)
        assert made.request["cfg_scale"] == read_request({"prompt": ""}, SCHEMA).cfg_scale
        with Image.open(data / "thumbs" / image.filename) as thumbnail:
            assert (thumbnail.format, thumbnail.size) == ("WEBP", (96, 64))


def test_a_second_run_changes_nothing(
    lost: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = lost
    reindex(data, capsys)
    before = look(data)
    assert "3 pictures are listed: 3 were, 0 were added" in reindex(data, capsys)
    assert look(data) == before
    assert sorted(path.name for path in data.glob(f"{DATABASE}*")) == [DATABASE]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_database_is_kept_and_another_is_made(
    damage: Callable[[Path], object],
    lost: tuple[Path, list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, names = lost
    reindex(data, capsys)
    for number in (1, 2):
        damage(data / DATABASE)
        there = (data / DATABASE).exists()
        said = reindex(data, capsys)
        assert "3 pictures are listed: 0 were, 3 were added" in said
        assert (f"{DATABASE}.damaged-{number}" in said) is there
        assert (data / f"{DATABASE}.damaged-{number}").exists() is there
        assert [image.filename for image in look(data).images] == names[::-1]


def test_what_is_whole_is_kept_and_the_rest_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve() -> list[str]:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path) as broker:
            worker = Hand(broker)
            jobs = [(await submit(broker)).job_id for _ in range(4)]
            for job_id in (await worker.lease(3))[:2]:
                await worker.draw(job_id, gallery)
            await broker.cancel(jobs[3])
            return jobs

    kept, gone, drawn, canceled = run(serve())
    (tmp_path / "images" / f"{gone}.png").unlink()
    # The picture of a job that will be drawn again, and one of a job that ended without.
    for job_id in (drawn, canceled):
        Gallery(tmp_path).add_picture(f"{job_id}.png", content())
    old = add(tmp_path, 1)
    bare, damaged = f"{new_job_id()}.png", f"{new_job_id()}.png"
    plain = BytesIO()
    Image.new("L", (10, 20)).save(plain, "PNG")
    Gallery(tmp_path).add_picture(bare, plain.getvalue())
    Gallery(tmp_path).add_picture(damaged, b"no picture")
    (tmp_path / "images" / "holiday.png").write_bytes(content())
    files = {path: path.read_bytes() for path in (tmp_path / "images").iterdir()}

    said = reindex(tmp_path, capsys)
    assert "3 pictures are listed: 1 were, 2 were added; 1 whose files are gone" in said
    assert "left alone: 3 that cannot be read, or whose job did not complete" in said
    assert "left alone: 1 files that are no pictures of ours" in said
    assert files == {path: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        status = dict(connection.execute("SELECT job_id, status FROM jobs").fetchall())
    connection.close()
    assert (status[drawn], status[canceled], status[gone]) == (
        "processing",
        "canceled",
        "completed",
    )
    listed = look(tmp_path).images
    assert listed[-1].filename == old
    assert {image.filename for image in listed} == {f"{kept}.png", old, bare}
    (unknown,) = (image for image in listed if image.filename == bare)
    assert (unknown.prompt, unknown.seed, unknown.model) == ("", 0, "unknown")
    assert (unknown.width, unknown.height) == (10, 20)


@pytest.mark.parametrize(
    "recipe",
    [
        "{}",
        "[]",
        "[" * 100_000,
        '{"prompt": 7}',
        '{"prompt": "\\ud800", "seed": 1}',
        '{"prompt": "x", "seed": -1}',
        '{"prompt": "x", "seed": 1e400}',
        '{"prompt": "x", "loras": [7]}',
        '{"prompt": "x", "priority": "first"}',
        '{"prompt": "x", "steps": true, "cfg_scale": NaN}',
    ],
    ids=lambda text: text[:40],
)
def test_a_recipe_that_others_wrote_does_no_harm(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info, file = PngInfo(), BytesIO()
    info.add_text("calotype", recipe)
    info.add_text("parameters", 'x\nSteps: 3, Model: "a, b')
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    name = f"{new_job_id()}.png"
    Gallery(tmp_path).add_picture(name, file.getvalue())
    assert "1 were added" in reindex(tmp_path, capsys)
    (image,) = look(tmp_path).images
    assert (image.filename, image.seed, image.model) == (name, 0, "unknown")


def test_a_run_that_is_killed_is_run_again(
    lost: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    data, names = lost
    (data / DATABASE).write_text("Dear aunt, " * 1000)
    command = [sys.executable, "-c", DIE_IN_THE_MIDDLE, str(data)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (data / DATABASE).read_text().startswith("Dear aunt")
    reindex(data, capsys)
    assert [image.filename for image in look(data).images] == names[::-1]
    aside = f"{DATABASE}.damaged-1"
    assert sorted(path.name for path in data.glob(f"{DATABASE}*")) == [DATABASE, aside]


def test_a_full_disk_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk") as place:
        data = place / "data"
        names = [add(data, number) for number in range(20)]
        filler = fill(place)
        assert main(["gallery", "reindex", "--data", str(data)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("calotype: ")
        filler.unlink()
        reindex(data, capsys)
        assert [image.filename for image in look(data).images] == names[::-1]


def test_a_folder_that_is_served_or_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def check() -> None:
        async with open_broker(tmp_path):
            assert main(["gallery", "reindex", "--data", str(tmp_path)]) == 1
        assert "another server uses this data folder" in capsys.readouterr().err

    run(check())
    absent = tmp_path / "absent"
    assert main(["gallery", "reindex", "--data", str(absent)]) == 1
    assert "no folder of pictures in it" in capsys.readouterr().err
    assert not absent.exists()


def test_a_server_refuses_a_damaged_database_and_serves_after_a_reindex(tmp_path: Path) -> None:
    options = Options(ENGINES, tmp_path, model="demo", flags=("--backend", "onnxruntime-cpu"))
    with LiveServer(options) as server:
        for each in NAMES:
            server.api.draw(output_format=each, prompt="a red heart", seed=5)
        before = server.api.client.get("/api/images").json()["images"]
    path = tmp_path / DATABASE
    with path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * (path.stat().st_size - 4096))
    command = [CALOTYPE, "serve", "--port", "0", "--engines", str(ENGINES), "--data", str(tmp_path)]
    environment = clean_environment()
    refused = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=60
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"calotype: {path}: cannot be opened as a database (")
    shutil.rmtree(tmp_path / "thumbs")
    command = [CALOTYPE, "gallery", "reindex", "--data", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=60)
    with LiveServer(options) as server:
        after = server.api.client.get("/api/images").json()["images"]
        for image in after:
            assert server.api.client.get(image["url"]).status_code == 200
            assert server.api.client.get(image["thumb_url"]).status_code == 200
            job = server.api.job(image["job_id"])
            assert (job["status"], job["image"]) == ("completed", image)
    assert [{**image, "created_at": ""} for image in after] == [
        {**image, "created_at": ""} for image in before
    ]
