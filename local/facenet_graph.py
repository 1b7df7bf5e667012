"""Turns the published FaceNet graph into ONNX, without TensorFlow.

The frozen graph of davidsandberg/facenet 20180408-102900 (MIT) is Inception-ResNet-v1 in NHWC with 17 kinds of
operation. Each is written out here as its ONNX counterpart in NCHW. The result is a function of the input bytes
alone: fixed names, fixed order, fixed opset and IR version, so that its SHA-256 can be pinned beside the original's.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from local.graphdef import Node, read_graph
from shared.errors import IntegrityError

OPSET: Final = 13
IR_VERSION: Final = 8
IMAGES: Final = "images"
EMBEDDINGS: Final = "embeddings"
SIZE_PX: Final = 160
DIMENSION: Final = 512

_PADDING: Final = {"SAME": "SAME_UPPER", "VALID": "VALID"}
_SAME_OPERATION: Final = {"Relu": "Relu", "Add": "Add", "Mul": "Mul"}


def facenet_to_onnx(graph_def: bytes) -> bytes:
    """The ONNX form of the frozen FaceNet graph.

    Args:
        graph_def: serialised GraphDef with the placeholder `input` (N, 160, 160, 3) and the node `embeddings`.

    Returns:
        A serialised ONNX model: `images` (N, 3, 160, 160) float32 to `embeddings` (N, 512) float32, L2-normalised.

    Raises:
        IntegrityError: the bytes are no GraphDef, or one with operations FaceNet does not have.
    """
    model: ModelProto = _Translation(read_graph(graph_def)).model()
    return bytes(model.SerializeToString(deterministic=True))


class _Translation:
    """The ONNX nodes and constants for one graph, gathered in topological order."""

    def __init__(self, graph: dict[str, Node]) -> None:
        self._graph = graph
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._done: dict[str, str] = {}  # node of the graph → name of its ONNX value

    def model(self) -> ModelProto:
        for name in self._order(EMBEDDINGS):  # every value keeps its node's name, so the last one is `embeddings`
            self._done[name] = self._translate(self._graph[name])
        graph = helper.make_graph(
            self._nodes,
            "facenet",
            [helper.make_tensor_value_info(IMAGES, TensorProto.FLOAT, ["N", 3, SIZE_PX, SIZE_PX])],
            [helper.make_tensor_value_info(EMBEDDINGS, TensorProto.FLOAT, ["N", DIMENSION])],
            initializer=list(self._constants.values()),
        )
        return helper.make_model(
            graph,
            producer_name="facerelay",
            producer_version="1",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )

    def _order(self, output: str) -> list[str]:
        """What `output` needs, each node after its inputs: the file's order is not topological."""
        ordered: dict[str, None] = {}
        stack = [(output, False)]
        while stack:
            name, expanded = stack.pop()
            if name not in self._graph:
                raise IntegrityError(f"the graph has no node {name!r}; it is not the published FaceNet")
            if name in ordered:
                continue
            if expanded:
                ordered[name] = None
            else:
                stack.append((name, True))
                stack.extend((parent, False) for parent in reversed(self._graph[name].inputs))
        return list(ordered)

    def _translate(self, node: Node) -> str:
        """Adds what `node` means, and names the value it gives. Constants are read by the nodes that use them."""
        if node.op == "Const":
            return node.name
        if node.op == "Placeholder":
            return IMAGES
        if node.op in _SAME_OPERATION:
            return self._emit(_SAME_OPERATION[node.op], node, [self._value(parent) for parent in node.inputs])
        method = getattr(self, f"_{node.op.lower()}", None)
        if method is None:
            raise IntegrityError(f"the graph has an operation {node.op!r}; it is not the published FaceNet")
        return str(method(node))

    def _value(self, name: str) -> str:
        node = self._graph[name]
        return self._constant(name, node.tensor()) if node.op == "Const" else self._done[name]

    def _constant(self, name: str, array: np.ndarray[Any, Any]) -> str:
        self._constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _emit(self, op: str, node: Node, inputs: list[str], **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op, inputs, [node.name], name=node.name, **attributes))
        return node.name

    def _tensor(self, name: str) -> np.ndarray[Any, Any]:
        return self._graph[name].tensor()

    def _conv2d(self, node: Node) -> str:
        weights = self._tensor(node.inputs[1]).transpose(3, 2, 0, 1)  # HWIO → OIHW
        return self._emit(
            "Conv",
            node,
            [self._done[node.inputs[0]], self._constant(node.inputs[1], weights)],
            auto_pad=_PADDING[node.text("padding")],
            kernel_shape=list(weights.shape[2:]),
            strides=node.ints("strides")[1:3],
        )

    def _biasadd(self, node: Node) -> str:
        """Only ever after a convolution, which takes the bias as its third input."""
        convolution = next(made for made in reversed(self._nodes) if made.name == node.inputs[0])
        convolution.input.append(self._constant(node.inputs[1], self._tensor(node.inputs[1])))
        return self._done[node.inputs[0]]

    def _pool(self, op: str, node: Node) -> str:
        return self._emit(
            op,
            node,
            [self._done[node.inputs[0]]],
            auto_pad=_PADDING[node.text("padding")],
            kernel_shape=node.ints("ksize")[1:3],
            strides=node.ints("strides")[1:3],
        )

    def _maxpool(self, node: Node) -> str:
        return self._pool("MaxPool", node)

    def _avgpool(self, node: Node) -> str:
        return self._pool("AveragePool", node)

    def _concatv2(self, node: Node) -> str:
        if int(self._tensor(node.inputs[-1])) != 3:
            raise IntegrityError("the graph joins on another axis than channels; it is not the published FaceNet")
        return self._emit("Concat", node, [self._done[parent] for parent in node.inputs[:-1]], axis=1)

    def _reshape(self, node: Node) -> str:
        """Flattens a 1×1 map, or wraps the vector for batch norm: in NCHW with one pixel, all the same thing."""
        return self._emit("Flatten", node, [self._done[node.inputs[0]]], axis=1)

    def _matmul(self, node: Node) -> str:
        weights = self._constant(node.inputs[1], self._tensor(node.inputs[1]))
        return self._emit("MatMul", node, [self._done[node.inputs[0]], weights])

    def _fusedbatchnorm(self, node: Node) -> str:
        """The one batch norm left, after the matrix product: a scale and an offset a channel."""
        gamma, beta, mean, variance = (self._tensor(name).astype(np.float64) for name in node.inputs[1:5])
        scale = gamma / np.sqrt(variance + node.number("epsilon"))
        offset = beta - mean * scale
        scaled = f"{node.name}/scaled"
        factors = self._constant(f"{node.name}/scale", scale.astype(np.float32))
        self._nodes.append(helper.make_node("Mul", [self._done[node.inputs[0]], factors], [scaled], name=scaled))
        return self._emit("Add", node, [scaled, self._constant(f"{node.name}/offset", offset.astype(np.float32))])

    def _square(self, node: Node) -> str:
        value = self._done[node.inputs[0]]
        return self._emit("Mul", node, [value, value])

    def _sum(self, node: Node) -> str:
        axes = self._constant(f"{node.name}/axes", np.array([1], np.int64))
        return self._emit("ReduceSum", node, [self._done[node.inputs[0]], axes], keepdims=1)

    def _maximum(self, node: Node) -> str:
        return self._emit("Max", node, [self._value(parent) for parent in node.inputs])

    def _rsqrt(self, node: Node) -> str:
        root = f"{node.name}/root"
        self._nodes.append(helper.make_node("Sqrt", [self._done[node.inputs[0]]], [root], name=root))
        return self._emit("Reciprocal", node, [root])
