"""Silences the libraries of the build stage while a command prints its own lines."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging

_TALKATIVE = ("torch.onnx", "torch.export", "onnx_ir", "onnxscript", "diffusers", "transformers")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide advice and progress of the libraries; their errors still come as exceptions."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        transformers_logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
