"""Reads a frozen TensorFlow GraphDef without TensorFlow.

Only the fields that a frozen inference graph uses are declared; protobuf skips the rest. Field numbers are those of
tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape}.proto (Apache-2.0), which the wire format
fixes for ever.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from shared.errors import IntegrityError

_PACKAGE: Final = "facerelay.graphdef"
_OPTIONAL, _REPEATED = 1, 3
_INT32, _INT64, _FLOAT, _BOOL, _STRING, _BYTES, _MESSAGE = 5, 3, 2, 8, 9, 12, 11

_SCHEMA: Final[dict[str, list[tuple[str, int, int, int, str]]]] = {
    "Dim": [("size", 1, _INT64, _OPTIONAL, "")],
    "TensorShape": [("dim", 2, _MESSAGE, _REPEATED, "Dim")],
    "Tensor": [
        ("dtype", 1, _INT32, _OPTIONAL, ""),
        ("tensor_shape", 2, _MESSAGE, _OPTIONAL, "TensorShape"),
        ("tensor_content", 4, _BYTES, _OPTIONAL, ""),
        ("float_val", 5, _FLOAT, _REPEATED, ""),
        ("int_val", 7, _INT32, _REPEATED, ""),
    ],
    "IntList": [("i", 3, _INT64, _REPEATED, "")],
    "AttrValue": [
        ("list", 1, _MESSAGE, _OPTIONAL, "IntList"),
        ("s", 2, _BYTES, _OPTIONAL, ""),
        ("i", 3, _INT64, _OPTIONAL, ""),
        ("f", 4, _FLOAT, _OPTIONAL, ""),
        ("b", 5, _BOOL, _OPTIONAL, ""),
        ("tensor", 8, _MESSAGE, _OPTIONAL, "Tensor"),
    ],
    "AttrEntry": [("key", 1, _STRING, _OPTIONAL, ""), ("value", 2, _MESSAGE, _OPTIONAL, "AttrValue")],
    "Node": [
        ("name", 1, _STRING, _OPTIONAL, ""),
        ("op", 2, _STRING, _OPTIONAL, ""),
        ("input", 3, _STRING, _REPEATED, ""),
        ("attr", 5, _MESSAGE, _REPEATED, "AttrEntry"),
    ],
    "Graph": [("node", 1, _MESSAGE, _REPEATED, "Node")],
}
"""Message → (field, number, type, label, message type). A protobuf map is a repeated key-value message on the wire."""

_DTYPES: Final[dict[int, np.dtype[Any]]] = {1: np.dtype("<f4"), 3: np.dtype("<i4"), 9: np.dtype("<i8")}
"""tensorflow.DataType values of the tensors that a frozen network holds."""


def _graph_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="facerelay/graphdef.proto", package=_PACKAGE, syntax="proto3")
    for message, fields in _SCHEMA.items():
        declared = file.message_type.add(name=message)
        for name, number, kind, label, of in fields:
            declared.field.add(
                name=name,
                number=number,
                type=kind,
                label=label,
                type_name=f".{_PACKAGE}.{of}" if of else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Graph"))


class Node:
    """One operation of a graph.

    Attributes:
        inputs: names of the nodes it reads, output index and control inputs removed.
    """

    def __init__(self, proto: Any) -> None:
        self.name: str = proto.name
        self.op: str = proto.op
        self.inputs = [_node_of(text) for text in proto.input if not text.startswith("^")]
        self._attributes = {entry.key: entry.value for entry in proto.attr}

    def ints(self, key: str) -> list[int]:
        """A list attribute such as `strides`."""
        return list(self._attributes[key].list.i)

    def text(self, key: str, default: str = "") -> str:
        """A string attribute such as `padding`."""
        return self._attributes[key].s.decode() if key in self._attributes else default

    def number(self, key: str) -> float:
        """A float attribute such as `epsilon`."""
        return float(self._attributes[key].f)

    def tensor(self) -> np.ndarray[Any, Any]:
        """The value of a Const node."""
        proto = self._attributes["value"].tensor
        dtype = _DTYPES.get(proto.dtype)
        if dtype is None:
            raise IntegrityError(f"the graph's constant {self.name!r} has an unexpected type {proto.dtype}")
        shape = tuple(dim.size for dim in proto.tensor_shape.dim)
        if proto.tensor_content:
            return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
        listed = np.array(proto.float_val if dtype.kind == "f" else proto.int_val, dtype)
        return np.full(shape, listed[0]) if listed.size == 1 else listed.reshape(shape)


def _node_of(reference: str) -> str:
    return reference.partition(":")[0]


def read_graph(data: bytes) -> dict[str, Node]:
    """The nodes of a serialised GraphDef by name, in file order (which need not be topological).

    Raises:
        IntegrityError: the bytes are no GraphDef.
    """
    graph = _graph_class()()
    try:
        graph.ParseFromString(data)
    except DecodeError as error:
        raise IntegrityError("not a TensorFlow GraphDef") from error
    return {proto.name: Node(proto) for proto in graph.node}
