"""The times of calls in a file, so that a worker that starts again knows them.

The file holds the times of each model on each device apart. A file that cannot be read is begun
anew, since all that is in it can be measured again.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from runtime.draw.costs import Kind, KnownTimes, StepTime
from runtime.errors import in_one_line
from runtime.files import write_whole
from runtime.package.manifest import EVALUATIONS, HEIGHT, WIDTH
from runtime.package.target import Target

logger = logging.getLogger(__name__)


_FILE = TypeAdapter(dict[str, KnownTimes])


@dataclass(frozen=True, slots=True)
class KeptCosts:
    """The file, and the model and device whose times are meant."""

    path: Path
    subject: str

    def read(self) -> KnownTimes:
        """The known times; none of a subject that was never written."""
        return self._content().get(self.subject, KnownTimes())

    def write(self, times: KnownTimes) -> None:
        """Keep these times. Where the disk takes no file, times are lost and nothing else."""
        content = self._content() | {self.subject: times}
        try:
            write_whole(self.path, json.dumps(_FILE.dump_python(content, mode="json")).encode())
        except OSError as error:
            logger.warning("the times of steps are not kept: %s", error)

    def _content(self) -> dict[str, KnownTimes]:
        try:
            return _FILE.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            line = in_one_line(error)
            logger.warning("the times of steps in %s are measured anew: %s", self.path, line)
            return {}


def compiled_times(target: Target | None) -> KnownTimes:
    """The times that were measured when a target was verified, without LoRAs."""
    times = target.record.engines["denoiser"].step_times if target else ()
    return KnownTimes(
        [
            StepTime(
                Kind(each.axes[HEIGHT], each.axes[WIDTH], adapted=False),
                each.axes[EVALUATIONS],
                each.milliseconds / 1e3,
            )
            for each in times
        ]
    )
