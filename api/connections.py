"""The number of connections that a server may keep open: by settings, and by its descriptors."""

import resource

SPARE_DESCRIPTORS = 128
"""Descriptors for files, pictures that are sent, the database, the worker and libraries."""


def connection_bound(wished: int | None) -> int:
    """The most connections, `wished` at most; first raises the number of descriptors that this
    process may have to the most that its user allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError):
            pass  # Some systems state a hard limit that they do not grant.
    if soft == resource.RLIM_INFINITY:
        return wished or 2**20
    most = max(soft - SPARE_DESCRIPTORS, soft // 2)
    return min(wished, most) if wished else most
