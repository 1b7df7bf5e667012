"""Reads Bicep as far as the checks need it: declarations and literal values, over tree-sitter.

The Bicep compiler is not on every machine. What it would say of properties, `schema.py` says in part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

ROOT = Path(__file__).parents[1]
BICEP = ROOT / "infra" / "bicep"
FILES = sorted(BICEP.rglob("*.bicep"))

_PARSER = Parser(Language(tree_sitter_bicep.language()))
_WRAPPERS = {"for_statement", "if_statement"}


class Expression(str):
    """The source text of what is not a literal."""


@dataclass(frozen=True, slots=True)
class Resource:
    """`resource symbol 'type@version'`, or a module with its path as `type`."""

    symbol: str
    type: str
    version: str
    existing: bool
    body: dict[str, Any]


@dataclass(slots=True)
class BicepFile:
    """One file's declarations. A parameter without a default has None."""

    path: Path
    root: Node
    params: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, Resource] = field(default_factory=dict)
    modules: dict[str, Resource] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    def of_type(self, kind: str) -> list[Resource]:
        """Resources that the file deploys, of one type."""
        return [r for r in self.resources.values() if r.type == kind and not r.existing]


def text_of(node: Node) -> str:
    return (node.text or b"").decode()


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    for child in node.children:
        yield from walk(child)


def value_of(node: Node) -> Any:
    """A literal as Python has it; anything else as an `Expression`."""
    if node.type == "string":
        plain = all(part.type == "string_content" for part in node.named_children)
        return "".join(map(text_of, node.named_children)) if plain else Expression(text_of(node))
    if node.type == "number":
        return int(text_of(node))
    if node.type == "boolean":
        return text_of(node) == "true"
    if node.type == "null":
        return None
    if node.type == "array":
        return [value_of(item) for item in node.named_children if item.type != "comment"]
    if node.type == "object":
        pairs = [p.named_children for p in node.named_children if p.type == "object_property"]
        return {_name(key): value_of(value) for key, value in pairs}
    return Expression(text_of(node))


def _name(node: Node) -> str:
    return str(value_of(node)) if node.type == "string" else text_of(node)


def _body(node: Node) -> Node:
    inner = node.named_children[-1]
    return _body(inner) if inner.type in _WRAPPERS else inner


def _resource(node: Node) -> Resource:
    symbol, kind = node.named_children[:2]
    body = value_of(_body(node))
    if not isinstance(body, dict):
        raise TypeError(f"{text_of(symbol)} has no body")
    type_, _, version = _name(kind).partition("@")
    existing = any(child.type == "existing" or text_of(child) == "existing" for child in node.children)
    return Resource(text_of(symbol), type_, version, existing, body)


def read(path: Path) -> BicepFile:
    """The declarations of one file."""
    root = _PARSER.parse(path.read_bytes()).root_node
    file = BicepFile(path, root)
    for node in root.named_children:
        parts = node.named_children
        if node.type == "parameter_declaration":
            file.params[text_of(parts[0])] = value_of(parts[2]) if len(parts) > 2 else None
        elif node.type == "variable_declaration":
            file.variables[text_of(parts[0])] = value_of(parts[-1])
        elif node.type == "resource_declaration":
            resource = _resource(node)
            file.resources[resource.symbol] = resource
        elif node.type == "module_declaration":
            module = _resource(node)
            file.modules[module.symbol] = module
        elif node.type == "output_declaration":
            file.outputs[text_of(parts[0])] = value_of(parts[-1])
    return file
