"""Pictures a second of a server whose clients each ask for the next picture when one is done."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.serving import COMPLETED, Followed, Server


def closed_loop(
    server: Server, bodies: Sequence[Mapping[str, Any]], clients: int
) -> dict[str, Any]:
    """Draw a picture of each body, always `clients` of them at once, and count pictures a second.

    `in_a_row` counts from the first end of a picture to the last, so that neither the first picture
    nor the idle clients at the end are in it. Raises ServingError.
    """
    began = time.perf_counter()

    def draw(body: Mapping[str, Any]) -> tuple[Followed, float]:
        return server.draw(body), time.perf_counter()

    with ThreadPoolExecutor(clients, "client") as pool:
        drawn = list(pool.map(draw, bodies))
    ends = sorted(end for _, end in drawn)
    spanned = ends[-1] - ends[0]
    return {
        "pictures": len(drawn),
        "clients": clients,
        "failed": [
            f"{each.job_id}: {each.status}" for each, _ in drawn if each.status != COMPLETED
        ],
        "pictures_a_second": round(len(drawn) / (ends[-1] - began), 4),
        "in_a_row": round((len(drawn) - 1) / spanned, 4) if spanned else None,
        "largest_wait_ms": round(1e3 * max(each.seconds for each, _ in drawn), 1),
    }
