"""ONNX Runtime as custom operators see it: its API's table of functions, in Python.

Statuses, values, shapes and so on are handles: numbers that stand for objects here.
"""

# The parameters are the vendor's.
# ruff: noqa: ARG002, ARG005

import ctypes
from collections.abc import Callable, Mapping, Sequence
from ctypes import CFUNCTYPE, POINTER, Structure, addressof, c_char_p, c_int, c_size_t, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from runtime.package.tensors import Tensor

ELEMENTS = {"F32": 1, "F16": 10, "BF16": 16}
"""ONNX's numbers of the dtypes."""

_TABLE = 256
_INVALID_ARGUMENT = 2


class OperatorError(Exception):
    """A status that an operator returned: its message."""


def _returning(kind: Any, *parameters: Any) -> Any:
    return CFUNCTYPE(kind, *parameters)


class CustomOperator(Structure):
    """`OrtCustomOp` of version 17."""

    _fields_ = [
        ("version", ctypes.c_uint32),
        ("create_kernel", c_void_p),
        ("name", _returning(c_char_p, c_void_p)),
        ("provider", _returning(c_char_p, c_void_p)),
        ("input_type", _returning(c_int, c_void_p, c_size_t)),
        ("input_count", _returning(c_size_t, c_void_p)),
        ("output_type", _returning(c_int, c_void_p, c_size_t)),
        ("output_count", _returning(c_size_t, c_void_p)),
        ("compute", c_void_p),
        ("destroy", _returning(None, c_void_p)),
        ("input_characteristic", _returning(c_int, c_void_p, c_size_t)),
        ("output_characteristic", _returning(c_int, c_void_p, c_size_t)),
        ("input_memory", _returning(c_int, c_void_p, c_size_t)),
        ("variadic", c_void_p * 4),
        ("create", _returning(c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_void_p))),
        ("run", _returning(c_void_p, c_void_p, c_void_p)),
        ("infer_shapes", c_void_p),
        ("start_version", _returning(c_int, c_void_p)),
        ("end_version", c_void_p),
    ]


@dataclass
class Node:
    """A node of a graph, in the one run that it has."""

    attributes: Mapping[str, float | int | str]
    inputs: Sequence[np.ndarray | None]
    outputs: Sequence[np.dtype | None]
    """The dtype of each; None: left out."""
    name: str = "a node"
    made: dict[int, np.ndarray] = field(default_factory=dict)


class Api:
    """The API, which a library of operators is registered with."""

    def __init__(self, path: Path, version: int = 17) -> None:
        """Load and register the library. `version` is the newest that this ONNX Runtime knows.

        Raises OperatorError.
        """
        self._objects: dict[int, Any] = {}
        self._domains: list[str] = []
        self._operators: list[CustomOperator] = []
        self._keep: list[Any] = []
        self._table = (c_void_p * _TABLE)()
        for place, (function, parameters) in self._functions().items():
            kind = CFUNCTYPE(c_void_p, *parameters)(function)
            self._keep.append(kind)
            self._table[place] = ctypes.cast(kind, c_void_p).value
        self._library = ctypes.CDLL(str(path))
        get_api = CFUNCTYPE(c_void_p, ctypes.c_uint32)(
            lambda asked: addressof(self._table) if asked <= version else None
        )
        words = ctypes.create_string_buffer(f"1.{version}.0".encode())
        get_version = CFUNCTYPE(c_void_p)(lambda: addressof(words))
        base = (c_void_p * 2)(
            ctypes.cast(get_api, c_void_p).value, ctypes.cast(get_version, c_void_p).value
        )
        register = self._library.RegisterCustomOps
        register.restype, register.argtypes = c_void_p, [c_void_p, c_void_p]
        self._check(register(1, addressof(base)))

    @property
    def domains(self) -> list[str]:
        """The domains in the options of the session."""
        return self._domains

    @property
    def last_kernel(self) -> str:
        """The name of the kernel that was launched last."""
        name = c_char_p.in_dll(self._library, "last_kernel").value
        return (name or b"").decode()

    def declared(self, name: str) -> list[CustomOperator]:
        """An operator, once for each dtype."""
        return [each for each in self._operators if each.name(addressof(each)) == name.encode()]

    def run(
        self,
        name: str,
        dtype: str,
        inputs: Sequence[Tensor | None],
        attributes: Mapping[str, float | int | str],
        outputs: Sequence[bool] = (True,),
    ) -> list[Tensor | None]:
        """Create a node and run it once. Raises OperatorError."""
        (found,) = [
            each
            for each in self.declared(name)
            if each.output_type(addressof(each), 0) == ELEMENTS[dtype]
        ]
        arrays = [None if each is None else each.values for each in inputs]
        stored = np.dtype({"F32": "f4", "F16": "f2", "BF16": "u2"}[dtype])
        node = Node(attributes, arrays, [stored if each else None for each in outputs])
        kernel, handle = c_void_p(), self._handle(node)
        table = addressof(self._table)
        self._check(found.create(addressof(found), table, handle, ctypes.byref(kernel)))
        status = found.run(kernel, handle)
        found.destroy(kernel)
        self._check(status)
        return [
            Tensor(dtype, node.made[i]) if i in node.made else None for i in range(len(outputs))
        ]

    def _handle(self, thing: Any) -> int:
        # Statuses are handles too, and 0 is no status.
        handle = len(self._objects) + 1
        self._objects[handle] = thing
        return handle

    def _check(self, status: int | None) -> None:
        if status:
            raise OperatorError(self._objects[status])

    def _functions(self) -> dict[int, tuple[Callable[..., int | None], tuple[Any, ...]]]:
        """The functions at their places, and what they take."""
        size, text, pointer = c_size_t, c_char_p, c_void_p
        return {
            0: (lambda code, words: self._handle(words.decode()), (c_int, text)),
            26: (self._create_domain, (text, POINTER(pointer))),
            27: (self._add_operator, (pointer, pointer)),
            28: (self._add_domain, (pointer, pointer)),
            51: (self._data_of, (pointer, POINTER(pointer))),
            61: (self._rank_of, (pointer, POINTER(size))),
            62: (self._extents_of, (pointer, POINTER(ctypes.c_int64), size)),
            65: (self._shape_of, (pointer, POINTER(pointer))),
            85: (self._attribute, (pointer, text, POINTER(ctypes.c_float))),
            86: (self._attribute, (pointer, text, POINTER(ctypes.c_int64))),
            87: (self._string, (pointer, text, pointer, POINTER(size))),
            88: (self._input_count, (pointer, POINTER(size))),
            90: (self._input_of, (pointer, size, POINTER(pointer))),
            91: (
                self._output_of,
                (pointer, size, POINTER(ctypes.c_int64), size, POINTER(pointer)),
            ),
            93: (lambda status: None, (pointer,)),
            99: (lambda shape: None, (pointer,)),
            193: (self._stream_of, (pointer, POINTER(pointer))),
            244: (self._name_of, (pointer, pointer, POINTER(size))),
        }

    def _create_domain(self, name: bytes, made: Any) -> None:
        made[0] = self._handle(name.decode())

    def _add_operator(self, domain: int, address: int) -> None:
        self._operators.append(CustomOperator.from_address(address))

    def _add_domain(self, options: int, domain: int) -> None:
        self._domains.append(self._objects[domain])

    def _data_of(self, value: int, address: Any) -> None:
        address[0] = self._objects[value].ctypes.data

    def _shape_of(self, value: int, shape: Any) -> None:
        shape[0] = value

    def _rank_of(self, shape: int, rank: Any) -> None:
        rank[0] = self._objects[shape].ndim

    def _extents_of(self, shape: int, extents: Any, rank: int) -> None:
        for i, extent in enumerate(self._objects[shape].shape[:rank]):
            extents[i] = extent

    def _attribute(self, info: int, name: bytes, number: Any) -> int | None:
        found = self._objects[info].attributes.get(name.decode())
        if found is None:
            return self._handle(f"no attribute {name!r}")
        number[0] = found
        return None

    def _string(self, info: int, name: bytes, text: int, size: Any) -> int | None:
        found = str(self._objects[info].attributes.get(name.decode(), "")).encode() + b"\0"
        room, size[0] = size[0], len(found)
        if found == b"\0" or len(found) > room:
            return self._handle(f"no attribute {name!r} of at most {room} bytes")
        ctypes.memmove(text, found, len(found))
        return None

    def _name_of(self, info: int, text: int, size: Any) -> None:
        name = self._objects[info].name.encode() + b"\0"
        ctypes.memmove(text, name, len(name))

    def _input_count(self, context: int, count: Any) -> None:
        count[0] = len(self._objects[context].inputs)

    def _input_of(self, context: int, index: int, value: Any) -> None:
        found = self._objects[context].inputs[index]
        value[0] = None if found is None else self._handle(found)

    def _output_of(self, context: int, index: int, extents: Any, rank: int, value: Any) -> None:
        node = self._objects[context]
        value[0] = None
        if index < len(node.outputs) and node.outputs[index] is not None:
            shape = tuple(extents[i] for i in range(rank))
            # Neither zeros nor anything that a kernel would write.
            made = np.full(shape, 7777, node.outputs[index])
            node.made[index] = made
            value[0] = self._handle(made)

    def _stream_of(self, context: int, stream: Any) -> None:
        stream[0] = None
