"""TensorRT's messages while engines are opened and run, into our log; the last error is kept."""

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorrt_rtx as trt

    from runtime.backends.tensorrt.flavour import Api

logger = logging.getLogger(__name__)


class VendorLog:
    """Holds a logger of the vendor's class, which exists only once its module is loaded."""

    def __init__(self, api: "Api") -> None:
        """Warnings and errors go to our log; other messages are dropped."""
        severity = api.ILogger.Severity
        levels = {
            severity.WARNING: logging.WARNING,
            severity.ERROR: logging.ERROR,
            severity.INTERNAL_ERROR: logging.ERROR,
        }
        self._last_error = "it does not say why"

        def __init__(vendor: Any) -> None:  # noqa: N807
            api.ILogger.__init__(vendor)

        def log(_vendor: object, found: Any, message: str) -> None:
            level = levels.get(found)
            if level is None:
                return
            line = " ".join(message.split())
            if level == logging.ERROR:
                self._last_error = line
            logger.log(level, "%s", line)

        made: Any = type("Logger", (api.ILogger,), {"__init__": __init__, "log": log})
        self.logger: trt.ILogger = made()

    @property
    def last_error(self) -> str:
        """TensorRT's message of the last error so far."""
        return self._last_error
