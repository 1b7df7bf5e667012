"""YAML text as plain data with the place of every key, within bounds, and without what a configuration has no use for.

PyYAML is asked for its grammar alone. Every scalar stays the text that was written and the schema gives it its type, so
that `no`, `012` and `12:30` are what they look like. Anchors, aliases, tags and merge keys are refused: none of them is
needed, and they are how a file of a kilobyte becomes a gigabyte or a program.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

MAX_BYTES: Final = 262_144
MAX_DEPTH: Final = 8
MAX_NODES: Final = 20_000
_NOTHING: Final = frozenset({"", "~", "null", "Null", "NULL"})

Place = tuple[str | int, ...]
"""Where in the file: keys and positions in lists, from the outside inwards."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        line, column: from 1; 0 when it concerns the file as a whole.
        key: such as `cameras[0].fps`; empty when there is none.
        text: what is wrong, and what to do.
    """

    line: int
    column: int
    key: str
    text: str

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}: " if self.line else ""
        return f"{where}{self.key}: {self.text}" if self.key else f"{where}{self.text}"


@dataclass(slots=True)
class Tree:
    """What a file says.

    Attributes:
        data: mappings, lists and texts; what was left empty is not there.
        keys, values: line and column, from 1, of each key and of its value.
        problems: of the text itself, such as a key that is there twice.
    """

    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[Place, tuple[int, int]] = field(default_factory=dict)
    values: dict[Place, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, place: Place, text: str, *, at_key: bool = False) -> Problem:
        """A problem of what is at this place, or of the nearest thing around it that is in the file."""
        found = (0, 0)
        for length in range(len(place), 0, -1):
            part = place[:length]
            first, second = (self.keys, self.values) if at_key else (self.values, self.keys)
            if (position := first.get(part) or second.get(part)) is not None:
                found = position
                break
        return Problem(*found, written(place), text)


def written(place: Place) -> str:
    """A place as people write it.

    >>> written(("cameras", 0, "fps"))
    'cameras[0].fps'
    """
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read_tree(raw: bytes) -> Tree:
    """Reads a file's bytes. Never raises: what is wrong is in `problems`, and then `data` holds what could be read."""
    tree = Tree()
    if len(raw) > MAX_BYTES:
        tree.problems.append(Problem(0, 0, "", f"the file is larger than {MAX_BYTES // 1024} KiB"))
        return tree
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        tree.problems.append(Problem(line, 1, "", "not UTF-8; save the file in that encoding"))
        return tree
    try:
        if not _harmless(text, tree):
            return tree
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        tree.problems.append(_grammar(error, text))
        return tree
    except (yaml.YAMLError, RecursionError) as error:
        tree.problems.append(Problem(0, 0, "", f"not YAML: {str(error).splitlines()[0]}"))
        return tree
    if root is None or (isinstance(root, yaml.ScalarNode) and root.value in _NOTHING):
        return tree
    if not isinstance(root, yaml.MappingNode):
        tree.problems.append(_at(root, "", "the file must be keys with values, such as `site: museum`"))
        return tree
    tree.data = _mapping(root, (), tree)
    return tree


def _harmless(text: str, tree: Tree) -> bool:
    """Looks at the events, which are made one by one, before anything is built from them."""
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        documents += isinstance(event, yaml.DocumentStartEvent)
        if refused := _refused(event, depth, nodes, documents):
            tree.problems.append(_at(event, "", refused))
            return False
    return True


def _refused(event: yaml.Event, depth: int, nodes: int, documents: int) -> str:
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        return "anchors (&) and aliases (*) are not used here; write the value out, or put it in quotes"
    if getattr(event, "tag", None):
        return "tags (!) are not used here; put the value in quotes if it begins with one"
    if depth > MAX_DEPTH:
        return f"nested more than {MAX_DEPTH} deep"
    if nodes > MAX_NODES:
        return f"more than {MAX_NODES:,} keys and values"
    return "a second document (---) in one file" if documents > 1 else ""


def _grammar(error: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.splitlines()
    told = (error.problem or error.context or "not YAML").strip()
    if line < len(lines) and lines[line][: column + 1].lstrip(" ").startswith("\t"):
        told = "a tab; indent with spaces"
    elif "mapping values are not allowed" in told:
        told = "a colon where none can be; put a value that holds `: ` in quotes, and indent keys alike"
    elif "could not find expected ':'" in told:
        told = "a key without its colon and value"
    elif "expected <block end>" in told:
        told = "this line is indented differently from those that it belongs to"
    return Problem(line + 1, column + 1, "", told)


def _at(found: yaml.Node | yaml.Event, key: str, text: str) -> Problem:
    return Problem(*_position(found), key, text)


def _position(found: yaml.Node | yaml.Event) -> tuple[int, int]:
    mark = found.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


def _mapping(node: yaml.MappingNode, place: Place, tree: Tree) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            tree.problems.append(_at(key_node, written(place), "a key must be one word"))
            continue
        key = str(key_node.value)
        here = (*place, key)
        position = _position(key_node)
        if here in tree.keys:
            first = tree.keys[here][0]
            tree.problems.append(Problem(*position, written(here), f"is there twice; the first is in line {first}"))
            continue
        tree.keys[here] = position
        for value in _value(value_node, here, tree):
            found[key] = value
    return found


def _value(node: yaml.Node, place: Place, tree: Tree) -> Iterator[Any]:
    """The value, or nothing when it was left empty."""
    tree.values[place] = _position(node)
    if isinstance(node, yaml.MappingNode):
        yield _mapping(node, place, tree)
    elif isinstance(node, yaml.SequenceNode):
        yield [
            value
            for number, child in enumerate(node.value)
            for value in (list(_value(child, (*place, number), tree)) or [""])
        ]
    elif isinstance(node, yaml.ScalarNode) and (node.style is not None or node.value not in _NOTHING):
        yield str(node.value)
