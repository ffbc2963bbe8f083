"""The gallery over HTTP: pages, pictures, thumbnails, deletion."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from tests.api.live import Api, LiveServer, refused


def pages(api: Api, limit: int) -> list[list[dict[str, Any]]]:
    """Every page of the gallery, by way of the Link header, which must agree with the body."""
    found = []
    url: str | None = f"/api/images?limit={limit}"
    while url is not None:
        answer = api.client.get(url)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found.append(page["images"])
        assert ("next" in answer.links) == (page["next_cursor"] is not None)
        url = answer.links["next"]["url"] if "next" in answer.links else None
    return found


def test_120_pictures_page_newest_first_with_none_twice_and_none_left_out(api: Api) -> None:
    before = [image["filename"] for page in pages(api, 200) for image in page]
    with ThreadPoolExecutor(8) as pool:
        job_ids = list(
            pool.map(lambda _: api.submit(steps=1, preview_every=0), range(len(before), 120))
        )
    for job_id in job_ids:
        assert api.finish(job_id)["status"] == "completed"
    found = pages(api, 50)
    images = [image for page in found for image in page]
    assert len(images) == len(before) + len(job_ids) >= 120
    assert [len(page) for page in found[:-1]] == [50] * (len(found) - 1)
    assert len({image["filename"] for image in images}) == len(images)
    assert [image["filename"] for image in images][len(job_ids) :] == before
    created = [image["created_at"] for image in images]
    assert created == sorted(created, reverse=True)


def test_a_page_stays_where_it_was_when_pictures_come_and_go(api: Api) -> None:
    jobs = [api.finish(api.submit(steps=1)) for _ in range(3)]
    first = api.client.get("/api/images", params={"limit": 1}).json()
    assert first["images"][0]["job_id"] == jobs[2]["job_id"]
    api.finish(api.submit(steps=1))
    api.client.delete(jobs[2]["image"]["url"])
    following = {"limit": 1, "cursor": first["next_cursor"]}
    second = api.client.get("/api/images", params=following).json()
    assert second["images"][0]["job_id"] == jobs[1]["job_id"]


def test_an_image_is_described_whole(api: Api) -> None:
    job = api.finish(api.submit(prompt="two cats", width=96, seed=7))
    image = job["image"]
    assert image == {
        "filename": f"{job['job_id']}.png",
        "url": f"/api/images/{job['job_id']}.png",
        "thumb_url": f"/api/thumbs/{job['job_id']}.png",
        "width": 96,
        "height": 64,
        "seed": 7,
        "prompt": "two cats",
        "model": "tiny",
        "created_at": image["created_at"],
        "job_id": job["job_id"],
        "size_bytes": len(api.picture(job)),
    }
    assert image["created_at"].endswith("Z")


@pytest.mark.parametrize(
    ("output_format", "suffix", "media_type"),
    [
        ("png", ".png", "image/png"),
        ("webp", ".webp", "image/webp"),
        ("jpeg", ".jpg", "image/jpeg"),
    ],
)
def test_a_picture_and_its_thumbnail_may_be_cached_for_good(
    api: Api, output_format: str, suffix: str, media_type: str
) -> None:
    image = api.finish(api.submit(output_format=output_format))["image"]
    assert image["filename"].endswith(suffix)
    for url, kind in ((image["url"], media_type), (image["thumb_url"], "image/webp")):
        answer = api.client.get(url)
        assert answer.headers["content-type"] == kind
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        with Image.open(BytesIO(answer.content)) as picture:
            assert picture.get_format_mimetype() == kind
            assert picture.size == (64, 64)
        head = api.client.head(url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(answer.content))
        assert head.headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize("held", ["{}", "W/{}", '"another", {}', "*"])
def test_a_copy_at_hand_is_not_sent_again(api: Api, held: str) -> None:
    image = api.finish(api.submit())["image"]
    for url in (image["url"], image["thumb_url"]):
        etag = api.client.get(url).headers["etag"]
        answer = api.client.get(url, headers={"If-None-Match": held.format(etag)})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
        assert "immutable" in answer.headers["cache-control"]


def test_another_copy_is_sent_the_picture(api: Api) -> None:
    image = api.finish(api.submit())["image"]
    answer = api.client.get(image["url"], headers={"If-None-Match": '"another"'})
    assert answer.status_code == 200


def test_a_deleted_picture_is_gone_everywhere(api: Api, server: LiveServer) -> None:
    job = api.finish(api.submit())
    image = job["image"]
    answer = api.client.delete(image["url"])
    assert (answer.status_code, answer.content) == (204, b"")
    for again in (
        api.client.get(image["url"]),
        api.client.head(image["url"]),
        api.client.get(image["thumb_url"]),
        api.client.get(image["url"], headers={"If-None-Match": "*"}),
        api.client.delete(image["url"]),
    ):
        assert again.status_code == 404
    listed = [each["filename"] for page in pages(api, 200) for each in page]
    assert image["filename"] not in listed
    assert not list(server.data.rglob(image["filename"]))
    after = api.job(job["job_id"])
    assert (after["status"], after["image"]) == ("completed", None)


def test_a_picture_whose_file_was_taken_away_is_not_offered(api: Api, server: LiveServer) -> None:
    image = api.finish(api.submit())["image"]
    picture = server.data / "images" / image["filename"]
    content = picture.read_bytes()
    picture.unlink()
    detail = refused(api.client.get(image["url"]), 404)["detail"]
    assert "calotype gallery reindex" in detail
    assert image not in [each for page in pages(api, 5) for each in page]
    # A disk that comes back brings it back.
    picture.write_bytes(content)
    assert image in api.client.get("/api/images").json()["images"]
    picture.unlink()
    assert api.client.delete(image["url"]).status_code == 204
    assert "reindex" not in refused(api.client.get(image["url"]), 404)["detail"]


def test_a_thumbnail_that_is_missing_says_what_makes_it(api: Api, server: LiveServer) -> None:
    image = api.finish(api.submit())["image"]
    (server.data / "thumbs" / image["filename"]).unlink()
    detail = refused(api.client.get(image["thumb_url"]), 404)["detail"]
    assert "also makes missing thumbnails" in detail
    assert api.client.get(image["url"]).status_code == 200


CLIMBING = [
    "../server.log",
    "..%2Fserver.log",
    "%2e%2e%2fserver.log",
    "..%5cserver.log",
    "%2Fetc%2Fpasswd",
    "....//server.log",
    "calotype.sqlite3",
    "%00.png",
    "0123456789abcdef0123456789abcdef.png%00.txt",
    "0123456789abcdef0123456789abcdef.png%0a",
    "%ff%fe.png",
    "a" * 5000 + ".png",
    "0123456789ABCDEF0123456789ABCDEF.PNG",
    "",
    ".",
    "..",
]


@pytest.mark.parametrize("folder", ["images", "thumbs"])
@pytest.mark.parametrize("name", CLIMBING, ids=lambda name: name[:40])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_name_that_is_not_ours_finds_nothing(
    server: LiveServer, folder: str, name: str, method: str
) -> None:
    """Over a bare socket: a client library would put such a path in order first."""
    line = f"{method} /api/{folder}/{name} HTTP/1.1\r\n"
    answer = server.send(line.encode("ascii") + b"Host: localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 405"))
    assert b"application/problem+json" in answer
    assert b"root:" not in answer


CURSORS = [
    "",
    "0",
    "-1",
    "null",
    "AAAA",
    "AAAAAAAAAAA",
    "AAAAAAAAAAEAAAAA",
    "' OR 1=1 --",
    "../..",
    "\u00e9",
    "\u0000",
    "9" * 4000,
]


@pytest.mark.parametrize("cursor", CURSORS, ids=lambda cursor: ascii(cursor[:20]))
def test_a_cursor_that_is_not_ours_is_refused(api: Api, cursor: str) -> None:
    answer = api.client.get("/api/images", params={"cursor": cursor})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == "/cursor"


@pytest.mark.parametrize("spoil", [str.lower, lambda text: text + "=", lambda text: text[:-1]])
def test_a_cursor_that_was_changed_is_refused(api: Api, spoil: Any) -> None:
    api.finish(api.submit(steps=1))
    api.finish(api.submit(steps=1))
    cursor = api.client.get("/api/images", params={"limit": 1}).json()["next_cursor"]
    answer = api.client.get("/api/images", params={"cursor": spoil(cursor)})
    assert answer.status_code == 422


@pytest.mark.parametrize("limit", ["0", "201", "-1", "many", "1.5", "", "1e2", "99999999999999999"])
def test_a_limit_out_of_bounds_is_refused(api: Api, limit: str) -> None:
    answer = api.client.get("/api/images", params={"limit": limit})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["errors"][0]["pointer"] == "/limit"
    assert ascii(limit)[1:-1] in problem["detail"]
