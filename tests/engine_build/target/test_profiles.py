"""Profiles of engines, from a package's axes and the sizes to be served."""

import pytest

from engine_build.target.profiles import Tuning, check_served, profiles_of
from runtime.errors import BuildError
from runtime.package.manifest import AxisRecord, Manifest
from runtime.package.target import Profile, Range
from tests.tiny.manifests import MANIFEST, with_role

ONE = AxisRecord(minimum=1, maximum=None, multiple=1, usual=None)
TOKENS = AxisRecord(minimum=2, maximum=None, multiple=1, usual=77)
CAPTION = AxisRecord(minimum=32, maximum=512, multiple=32, usual=128)


def manifest(axes: dict[str, AxisRecord]) -> Manifest:
    return with_role(axes=axes)


DENOISER = {"batch": ONE, "evaluations": ONE, "height": ONE, "width": ONE, "tokens": TOKENS}
DECODER = {"batch": ONE, "height": ONE, "width": ONE}


def fixed(extent: int) -> Range:
    return Range(extent, extent, extent)


def profiles(axes: dict[str, AxisRecord], served: Tuning) -> tuple[Profile, ...]:
    return profiles_of("denoiser", manifest(axes), served)


def test_one_size_and_one_picture_at_once_are_static_with_and_without_guidance() -> None:
    found = profiles(DENOISER, Tuning(((128, 192),), max_batch=1))
    place = {"batch": fixed(1), "height": fixed(24), "width": fixed(16)}
    text = {"tokens": Range(77, 77, 308)}
    assert found == (
        {**place, **text, "evaluations": fixed(2)},
        {**place, **text, "evaluations": fixed(1)},
    )


def test_batches_share_a_profile_that_is_best_for_one_picture() -> None:
    (found,) = profiles(DENOISER, Tuning(((128, 128),), max_batch=4))
    assert found["batch"] == Range(1, 1, 4)
    assert found["evaluations"] == Range(1, 2, 8)
    assert found["height"] == found["width"] == fixed(16)


def test_every_size_has_profiles_of_its_own_in_the_order_asked_for() -> None:
    found = profiles(DECODER, Tuning(((256, 128), (128, 128)), max_batch=4))
    assert [(each["width"].best, each["height"].best) for each in found] == [(32, 16), (16, 16)]
    assert all(each["batch"] == fixed(1) for each in found)


def test_texts_are_as_long_as_the_graph_takes_or_four_times_the_usual() -> None:
    (encoder,) = profiles({"batch": ONE, "tokens": CAPTION}, Tuning(((128, 128),), 1))
    assert encoder == {"batch": Range(1, 1, 4), "tokens": Range(32, 128, 512)}


@pytest.mark.parametrize(
    ("served", "named"),
    [
        (Tuning(((100, 128),), 1), "--sizes 100x128: paper takes sides of 64 to 1024 pixels"),
        (Tuning(((128, 128), (128, 2048)), 1), "--sizes 128x2048"),
        (Tuning(((128, 128),), 5), "--max-batch 5: paper takes 1 to 4 samples"),
        (Tuning(((128, 128),), 0), "--max-batch 0"),
    ],
)
def test_what_the_graphs_do_not_take_is_refused_by_name(served: Tuning, named: str) -> None:
    with pytest.raises(BuildError, match=named):
        check_served(served, MANIFEST)
