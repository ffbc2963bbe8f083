"""Everything that Calotype raises on purpose.

CalotypeError
├── RequestError     the request is wrong: every fault in it, each with a JSON pointer
├── PackageError     a model package is missing, damaged, or cannot do what is asked
├── SourceError      what was handed to the build stage is no checkpoint that we serve
├── BuildError       a build failed: a graph does not match PyTorch, the disk is full
├── PictureError     a picture came out as none: its latents are not finite
└── BackendError     an inference backend cannot be opened, or cannot run what it was given
    └── DeviceError  the device failed: all data on it is lost, and the process has to end
        └── GraphError  a CUDA graph's first launch failed: the next process makes no CUDA graphs

A message names the thing, its value, what was expected and the remedy, in one line.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# The words of CUDA's own error, of ONNX Runtime's arena, of cuBLAS and cuDNN, of C++, and of ours
# for a GPU (`runtime.backends.device.cuda`).
_LACKING = ("out of memory", "allocate memory", "STATUS_ALLOC_FAILED", "bad_alloc", "does not hold")


def in_one_line(text: object) -> str:
    """A text for a terminal: one line, with nothing that a terminal would obey. What others wrote
    may be quoted in an error."""
    line = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def quoted(value: object, longest: int = 80) -> str:
    """A value that others wrote, as a message quotes it: in one line, and the beginning of a long
    one."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def named(name: str) -> str:
    """A name that others wrote: as it stands where it is short and of plain letters, and quoted
    otherwise."""
    return name if name and name.isprintable() and len(name) <= 80 else quoted(name)


class CalotypeError(Exception):
    """The root: whoever catches it may show its message to a person as it is."""


_LONGEST_FIELD = 200


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request: `pointer` is a JSON pointer (RFC 6901) into it."""

    pointer: str
    detail: str

    def __str__(self) -> str:
        field = self.pointer.removeprefix("/").replace("/", ".")
        if len(field) > _LONGEST_FIELD:
            field = f"{field[:_LONGEST_FIELD]}..."
        return f"{field}: {self.detail}" if field else self.detail


class RequestError(CalotypeError):
    """A request that cannot be served as it stands; `faults` holds every fault that was found."""

    def __init__(self, pointer: str, detail: str) -> None:
        self.faults: tuple[Fault, ...] = (Fault(pointer, detail),)
        super().__init__(str(self.faults[0]))

    @classmethod
    def of(cls, faults: Sequence[Fault]) -> "RequestError":
        """One error for several faults; there must be at least one."""
        error = cls(faults[0].pointer, faults[0].detail)
        error.faults = tuple(faults)
        error.args = ("; ".join(str(fault) for fault in faults),)
        return error


class PackageError(CalotypeError):
    """A model package that is missing, damaged, or made for something else."""


class SourceError(CalotypeError):
    """A reference that does not lead to a checkpoint which the build stage can read."""


class BuildError(CalotypeError):
    """A build that could not be finished; nothing of it is left behind as a package."""


class PictureError(CalotypeError):
    """A picture that was drawn to its end and is none; another attempt would come out the same."""


class BackendError(CalotypeError):
    """An inference backend that is not there, or that failed; the vendor's words are quoted."""


class DeviceError(BackendError):
    """The device failed while it ran: nothing that is on it can be trusted any more."""


class GraphError(DeviceError):
    """The device failed in the first launch of a CUDA graph; plain runs had gone well."""


def of_a_library(error: BaseException) -> bool:
    """True for what a library raises: an Exception, or a panic of its Rust code, which is none."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def lacks_memory(words: str) -> bool:
    """True where the words of an error, also of a vendor's, tell that memory fell short."""
    return any(each in words for each in _LACKING)
