"""Samplers and schedules by AUTOMATIC1111's names, both ways."""

from dataclasses import replace
from pathlib import Path

import pytest

from api.a1111.names import Names, identifier, names_of
from runtime.errors import RequestError
from runtime.package.manifest import Manifest, ModelPackage
from runtime.package.shelf import InversionShelf, LoraShelf
from runtime.plan.families import family_named
from runtime.plan.model import Model
from runtime.plan.sampling.samplers import SAMPLERS
from runtime.plan.sampling.titles import SAMPLER_TITLES, schedule_title
from tests.tiny.manifests import MANIFEST


def model(manifest: Manifest = MANIFEST) -> Model:
    package = ModelPackage(Path("paper"), manifest, digest="")
    family = family_named(manifest.family)
    return Model(package, family, {}, LoraShelf(package), InversionShelf(package))


NAMES = Names.of(model())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_and_schedule_is_the_same_there_and_back(sampler: str) -> None:
    for name in names_of(sampler):
        assert NAMES.read(name, "", 20) == (sampler, None)
    for schedule in SAMPLERS[sampler].schedules:
        title = schedule_title(sampler, schedule, 20, NAMES.config)
        there, back = NAMES.read(SAMPLER_TITLES[sampler], title, 20)
        assert there == sampler
        assert back is not None
        # Two schedules of one name are one there; the first of them is taken.
        assert schedule_title(sampler, back, 20, NAMES.config) == title


@pytest.mark.parametrize(
    ("sampler", "schedule", "expected"),
    [
        ("DPM++ 2M Karras", "", ("dpm++_2m", "karras")),
        ("DPM++ 2M Karras", "Karras", ("dpm++_2m", "karras")),
        ("DPM++ 2M Karras", "Automatic", ("dpm++_2m", "karras")),
        ("DPM++ 2M", "Karras", ("dpm++_2m", "karras")),
        ("DPM++ 2M", "karras", ("dpm++_2m", "karras")),
        ("Euler", "SGM Uniform", ("euler", "sgm_uniform")),
        ("k_euler_a", "sgm_uniform", ("euler_a", "sgm_uniform")),
        ("Euler a", "automatic", ("euler_a", None)),
        ("DDIM", "normal", ("ddim", None)),
        ("ddim", "", ("ddim", None)),
    ],
)
def test_names_that_clients_send(
    sampler: str, schedule: str, expected: tuple[str, str | None]
) -> None:
    assert NAMES.read(sampler, schedule, 20) == expected


@pytest.mark.parametrize(
    ("sampler", "schedule", "fault"),
    [
        ("PLMS", "", "sampler_name: 'PLMS' is no sampler of this model: Euler, Euler a"),
        ("euler a", "", "no sampler"),
        ("Euler a", "Karras", "scheduler: 'Euler a' has no schedule 'Karras'; it has Automatic,"),
        ("DPM++ 2M Karras", "SGM Uniform", "while sampler_name ends with 'Karras'"),
    ],
)
def test_other_names_are_refused(sampler: str, schedule: str, fault: str) -> None:
    with pytest.raises(RequestError) as raised:
        NAMES.read(sampler, schedule, 20)
    assert fault in str(raised.value)


def test_all_that_is_listed_is_taken() -> None:
    for name in NAMES.every_sampler:
        NAMES.read(name, "", 20)
    titles = {title for each in SAMPLERS for title in NAMES.titles(each, 20)}
    assert {*NAMES.every_schedule} == {
        *(*titles, "Automatic", "Normal"),
        *map(identifier, (*titles, "Automatic", "Normal")),
    }


@pytest.mark.parametrize("family", ["flux", "chroma", "zimage"])
def test_a_model_that_flows_has_one_sampler_and_one_schedule(family: str) -> None:
    options = {"guidance_embeds": True, "guidance_baked_in": True}
    defaults = replace(MANIFEST.defaults, sampler="euler")
    names = Names.of(
        model(replace(MANIFEST, family=family, family_options=options, defaults=defaults))
    )
    assert names.every_sampler == ("Euler", "k_euler", "Euler Simple")
    assert names.schedules == ("Simple",)
    assert names.read("Euler", "Simple", 4) == ("euler", "default")


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("name", NAMES.every_sampler)
def test_every_name_of_the_lists_holds_for_any_number_of_steps(name: str, steps: int) -> None:
    """With few steps an evenly spaced schedule is nearest to another one of theirs."""
    sampler, _ = NAMES.read(name, "", steps)
    assert sampler in SAMPLERS
