"""`calotype` on a machine with a GPU that there is not; what it compiles is a target of the fake's.

    python -m tests.fakes.server serve ...

What it compiles waits at a gate, and is made of what comes through it: a target, or a failure.
"""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import api.drawn
from api.cli import main
from api.preparation import Preparation, missing_target
from api.settings import Settings
from runtime.backends.devices import Devices
from runtime.package.manifest import ModelPackage
from tests.fakes.worker import imagine, stand_in

GATE = "IMAGINED_COMPILER_WAITS_AT"
"""In the environment: a named pipe. What is written to it is an error; nothing, and it compiles."""

COMPILE = """
import os, sys
from pathlib import Path
from tests.fakes.worker import servable
from tests.runtime.package.targets import add_target
error = Path(os.environ[sys.argv[1]]).read_text()
if error:
    sys.exit(error)
add_target(Path(sys.argv[2]), servable(((64, 64),)))
"""


def _missing(settings: Settings, package: ModelPackage, devices: Devices) -> Preparation | None:
    made = missing_target(settings, package, devices)
    command = [sys.executable, "-c", COMPILE, GATE, str(package.path)]
    return made and replace(made, command=command)


if __name__ == "__main__":
    imagine()
    api.drawn.missing_target = _missing
    with tempfile.TemporaryDirectory() as folder:
        sys.executable = str(stand_in(Path(folder)))
        os._exit(main())
