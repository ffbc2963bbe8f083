"""The child's end of a drawer. It needs the standard library alone, since it may be run by another
environment's Python.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def answer_requests(open_drawer: Callable[[Any], tuple[Callable[[Any], Any], Any]]) -> None:
    """Open a drawer on the options in the command line, and draw for each line until there is none.

    `open_drawer` returns the function that draws a request, and facts to be kept with the result.
    """
    # What libraries print goes where errors go: the answers have standard output for themselves.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        draw, facts = open_drawer(json.loads(sys.argv[1]))
        print(json.dumps(facts), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(draw(json.loads(line))), file=answers, flush=True)
