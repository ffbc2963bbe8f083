"""The streams of a job and of the gallery, over HTTP."""

import base64
from io import BytesIO

from PIL import Image

from tests.api.live import ENDED, Api, refused
from tests.api.sse import Event


def test_a_stream_tells_every_step_with_its_preview_and_closes_after_the_final_event(
    api: Api,
) -> None:
    job_id, events = api.draw_told(steps=6)
    assert events[0].retry == 2000
    assert [event.status for event in events][-1:] == ["completed"]
    assert not any(event.status in ENDED for event in events[:-1])
    steps = [event.data for event in events if event.status == "processing"]
    assert [step["step"] for step in steps] == [0, 1, 2, 3, 4, 5, 6]
    assert all(step["total_steps"] == 6 for step in steps)
    assert all(preview_size(step["preview"]) == (64, 64) for step in steps if step["preview"])
    assert events[-1].data["image"] == api.job(job_id)["image"]


def test_every_step_comes_in_order_and_previews_are_jpegs_that_decode(narrow: Api) -> None:
    """The job waits behind another, so that its stream is open before its first step."""
    blocker = narrow.occupy()
    job_id = narrow.submit(steps=5, width=512, height=512)
    with narrow.follow(job_id) as events:
        first = next(events)
        assert first.data == {"status": "queued", "queue_position": 1}
        narrow.cancel(blocker)
        rest = list(events)
    steps = [event.data for event in rest if event.status == "processing"]
    assert [step["step"] for step in steps] == [0, 1, 2, 3, 4, 5]
    # On a busy machine previews fall behind.
    assert {preview_size(step["preview"]) for step in steps if step["preview"]} <= {(512, 512)}
    assert len({event.id for event in rest}) == len(rest)


def test_previews_come_while_a_job_is_drawn(narrow: Api) -> None:
    """A machine that has other work may show few of them: among many steps are some."""
    job_id = narrow.occupy()
    with narrow.follow(job_id) as events:
        shown = next(event.data for event in events if event.data.get("preview"))
    assert shown["status"] == "processing"
    assert preview_size(shown["preview"]) == (512, 512)
    narrow.cancel(job_id)


def test_the_queue_position_falls_to_one_before_the_job_begins(narrow: Api) -> None:
    blocker = narrow.occupy()
    before = [narrow.submit(), narrow.submit()]
    job_id = narrow.submit()
    with narrow.follow(job_id) as events:
        first = next(events)
        assert first.data["queue_position"] == 3
        narrow.cancel(blocker)
        rest = list(events)
    statuses = [event.status for event in rest]
    begun = statuses.index("processing")
    positions = [event.data["queue_position"] for event in rest[:begun]]
    assert positions == [2, 1]
    assert [narrow.job(each)["status"] for each in before] == ["completed", "completed"]


def test_previews_come_as_often_as_they_are_wanted(api: Api) -> None:
    _, never = api.draw_told(steps=4, preview_every=0)
    assert all(event.data.get("preview") is None for event in never)
    _, sometimes = api.draw_told(steps=5, preview_every=2)
    shown = [event.data["step"] for event in sometimes if event.data.get("preview")]
    assert len(shown) <= 3
    assert 1 not in shown


def test_a_stream_resumed_in_the_middle_misses_no_status(narrow: Api) -> None:
    """Wherever it broke off: the ids after it are those that an unbroken stream has."""
    blocker = narrow.occupy()
    job_id = narrow.submit(steps=8)
    with narrow.follow(job_id) as events:
        seen = [next(events)]
        narrow.cancel(blocker)
        seen += [next(events), next(events)]
    rest = narrow.events(job_id, seen[-1].id)
    told = [*seen, *rest]
    steps = [event.data["step"] for event in told if event.status == "processing"]
    assert steps == list(range(steps[0], 9))
    assert told[-1].status == "completed"
    assert not {event.id for event in rest} & {event.id for event in seen}


def test_a_stream_opened_after_the_end_says_so_and_closes(api: Api) -> None:
    job = api.finish(api.submit())
    events = api.events(job["job_id"])
    assert [event.data for event in events] == [{"status": "completed", "image": job["image"]}]


def test_a_client_that_has_seen_the_final_event_is_told_to_stop(api: Api) -> None:
    job_id = api.submit()
    final = api.events(job_id)[-1]
    answer = api.client.get(f"/api/sse/{job_id}", headers={"Last-Event-ID": final.id})
    assert answer.status_code == 204
    assert answer.content == b""


def test_an_id_that_is_not_ours_begins_with_a_snapshot(api: Api) -> None:
    job_id = api.submit()
    api.finish(job_id)
    assert [event.status for event in api.events(job_id, "no id of ours")] == ["completed"]


def test_the_stream_of_an_unknown_job_is_a_404_before_any_event(api: Api) -> None:
    answer = api.client.get("/api/sse/0123456789abcdef")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_two_listeners_hear_the_same(narrow: Api) -> None:
    blocker = narrow.occupy()
    job_id = narrow.submit(steps=3)
    with narrow.follow(job_id) as one, narrow.follow(job_id) as other:
        assert next(one) == next(other)
        narrow.cancel(blocker)
        assert list(one) == list(other)


def test_a_job_whose_listener_has_gone_runs_on(api: Api) -> None:
    job_id = api.submit(steps=6)
    with api.follow(job_id) as events:
        next(events)
    assert api.finish(job_id)["status"] == "completed"


def test_the_gallery_tells_what_comes_and_what_goes(api: Api) -> None:
    newest = api.finish(api.submit())["image"]
    with api.follow("gallery") as events:
        assert next(events).data == {"event": "snapshot", "newest": newest["filename"]}
        image = api.finish(api.submit())["image"]
        assert next(events).data == {"event": "image", "image": image}
        api.client.delete(image["url"])
        deleted = next(events)
    assert deleted.data == {"event": "deleted", "filename": image["filename"]}


def test_a_quiet_stream_is_kept_awake_by_comments(api: Api) -> None:
    """Takes the 15 s that it is about: proxies close a connection on which nothing comes."""
    with api.client.stream("GET", "/api/sse/gallery") as answer:
        assert any(line.startswith(":") for line in answer.iter_lines())


def preview_size(preview: str) -> tuple[int, int]:
    """Decodes a data URL, whole."""
    head, _, text = preview.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(BytesIO(base64.b64decode(text, validate=True))) as image:
        assert image.format == "JPEG"
        image.load()
        return image.size


# The stream of a batch --------------------------------------------------------------------------


def test_the_stream_of_a_batch_tells_every_step_of_each_job(narrow: Api) -> None:
    blocker = narrow.occupy()
    batch = narrow.submit_batch(n=3, steps=3, preview_every=0)
    ids = [job["job_id"] for job in batch["jobs"]]
    with narrow.follow(f"batch/{batch['batch_id']}") as events:
        first = [next(events) for _ in ids]
        assert [(each.data["job_id"], each.data["queue_position"]) for each in first] == [
            (job_id, place) for place, job_id in enumerate(ids, 1)
        ]
        narrow.cancel(blocker)
        told = [*first, *events]
    assert len({event.id for event in told}) == len(told)
    for job_id in ids:
        own = [event.data for event in told if event.data["job_id"] == job_id]
        assert [each["step"] for each in own if each["status"] == "processing"] == [0, 1, 2, 3]
        assert own[-1]["image"] == narrow.job(job_id)["image"]
        assert {event.status for event in told[: told.index(first[-1])]} == {"queued"}


def test_a_stream_of_a_batch_that_breaks_off_anywhere_misses_no_status(narrow: Api) -> None:
    blocker = narrow.occupy()
    path = f"batch/{narrow.submit_batch(n=2, steps=3)['batch_id']}"
    with narrow.follow(path) as events:
        next(events)
        narrow.cancel(blocker)
        whole = [next(events), *events]
    for index, event in enumerate(whole[:-1]):
        rest = narrow.events(path, event.id)
        assert sorted(map(_steps, rest)) == sorted(map(_steps, whole[index + 1 :]))
    answer = narrow.client.get(f"/api/sse/{path}", headers={"Last-Event-ID": whole[-1].id})
    assert (answer.status_code, answer.content) == (204, b"")
    for strange in ("no id of ours", ",", "-,-"):
        assert [each.status for each in narrow.events(path, strange)] == ["completed"] * 2


def _steps(event: Event) -> tuple[str, str, int]:
    return event.data["job_id"], event.status, event.data.get("step", 0)


def test_a_canceled_job_ends_the_stream_of_its_batch_for_itself_alone(narrow: Api) -> None:
    blocker = narrow.occupy()
    batch = narrow.submit_batch(n=2)
    canceled, drawn = (job["job_id"] for job in batch["jobs"])
    with narrow.follow(f"batch/{batch['batch_id']}") as events:
        narrow.cancel(canceled)
        narrow.cancel(blocker)
        last = {event.data["job_id"]: event.status for event in events}
    assert last == {canceled: "canceled", drawn: "completed"}


def test_the_stream_of_an_unknown_batch_is_a_404_before_any_event(api: Api) -> None:
    job_id = api.submit()
    for path in ("batch/0123456789abcdef", f"batch/{job_id}"):
        problem = refused(api.client.get(f"/api/sse/{path}"), 404)
        assert "there is no batch" in problem["detail"]
