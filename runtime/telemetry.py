"""Telemetry of the libraries that draw and build: off, unless the environment says otherwise."""

import os

_OFF = {
    # From 1.29 on it keeps an id in the user's home and reports sessions over the network.
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def disable_telemetry() -> None:
    """Tell these libraries, for this process and its children, to report nothing to their vendors.

    They read it when they are imported: to be called first of all by every command.
    """
    for name, value in _OFF.items():
        os.environ.setdefault(name, value)
