"""Samplers and schedules of the loaded model by AUTOMATIC1111's names, both ways.

The names of its API are exact: titles, and the aliases of modules/sd_samplers_kdiffusion.py. Up to
its version 1.8 a sampler's name ended with its schedule ("DPM++ 2M Karras"); clients keep both.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.errors import RequestError
from runtime.plan.families.family import Facts
from runtime.plan.model import Model
from runtime.plan.sampling.samplers import SAMPLERS
from runtime.plan.sampling.scheduler_config import SchedulerConfig
from runtime.plan.sampling.titles import (
    FLOW_SCHEDULE,
    SAMPLER_ALIASES,
    SAMPLER_TITLES,
    schedule_title,
)

AUTOMATIC = "Automatic"
_OWN = (AUTOMATIC, "Normal")
"""The model's own schedule. There, the first is one of each sampler's own, and the second the plain
one, which SillyTavern asks for until another is chosen."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names that a model's samplers and schedules have there.

    A schedule's name may depend on the sampler and the number of steps: of evenly spaced ones it is
    the nearest one's.
    """

    facts: Facts
    config: SchedulerConfig
    schedules: tuple[str, ...]
    """Titles of all schedules that some sampler has with these steps, without Automatic."""
    steps: int
    """The model's own number of steps, by which lists are made."""

    @classmethod
    def of(cls, model: Model) -> "Names":
        """The names of a model's samplers and schedules."""
        facts = model.facts
        config = SchedulerConfig.from_mapping({} if facts.flows else model.manifest.scheduler)
        steps = model.manifest.defaults.steps
        bare = cls(facts, config, (), steps)
        titles = [title for each in facts.samplers for title in bare.titles(each, steps)]
        return cls(facts, config, tuple(dict.fromkeys(titles)), steps)

    @property
    def samplers(self) -> Mapping[str, str]:
        """Titles by the sampler's name here."""
        return {sampler: SAMPLER_TITLES[sampler] for sampler in self.facts.samplers}

    @property
    def every_sampler(self) -> tuple[str, ...]:
        """All that a request may write for a sampler."""
        plain = [name for sampler in self.facts.samplers for name in names_of(sampler)]
        ended = [
            f"{title} {schedule}"
            for sampler, title in self.samplers.items()
            for schedule in self.titles(sampler, self.steps)
        ]
        return (*plain, *ended)

    @property
    def every_schedule(self) -> tuple[str, ...]:
        """All that a request may write for a schedule."""
        titles = (*_OWN, *self.schedules)
        return (*titles, *map(identifier, titles))

    def titles(self, sampler: str, steps: int) -> Mapping[str, str]:
        """The sampler's schedules by their titles for a number of steps."""
        if self.facts.flows:
            return {FLOW_SCHEDULE: "default"}
        found: dict[str, str] = {}
        for schedule in SAMPLERS[sampler].schedules:
            try:
                title = schedule_title(sampler, schedule, steps, self.config)
            except RequestError:
                continue  # The sampler has no such number of steps in that schedule.
            found.setdefault(title, schedule)
        return found

    def read(self, sampler: str, schedule: str, steps: int) -> tuple[str, str | None]:
        """A sampler and a schedule by their names here; None for the model's own schedule.

        `schedule` may be empty. Raises RequestError.
        """
        ours, ending = self._sampler(sampler)
        wanted = "" if identifier(schedule) in map(identifier, _OWN) else schedule
        if ending and wanted and identifier(wanted) != identifier(ending):
            detail = f"{schedule!r}, while sampler_name ends with {ending!r}; name one schedule"
            raise RequestError("/scheduler", detail)
        title = wanted or ending
        if not title:
            return ours, None
        titles = self.titles(ours, steps)
        # A name from a list holds for any number of steps, though it may be another one's nearest.
        for each, name in (*titles.items(), *self.titles(ours, self.steps).items()):
            if identifier(each) == identifier(title):
                return ours, name
        known = ", ".join((AUTOMATIC, *titles))
        raise RequestError("/scheduler", f"{sampler!r} has no schedule {title!r}; it has {known}")

    def _sampler(self, name: str) -> tuple[str, str]:
        """The sampler's name here, and the schedule that the name ends with, often empty."""
        for sampler in self.facts.samplers:
            if name in names_of(sampler):
                return sampler, ""
            beginning, _, ending = name.partition(f"{SAMPLER_TITLES[sampler]} ")
            if not beginning and ending in self.schedules:
                return sampler, ending
        known = ", ".join(self.samplers.values())
        raise RequestError("/sampler_name", f"{name!r} is no sampler of this model: {known}")


def names_of(sampler: str) -> tuple[str, ...]:
    """The title of a sampler, then its aliases."""
    return (SAMPLER_TITLES[sampler], *SAMPLER_ALIASES[sampler])


def identifier(title: str) -> str:
    """A schedule's name in programs, which its API takes as well: `sgm_uniform`."""
    return title.lower().replace(" ", "_")
