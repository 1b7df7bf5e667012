"""The Bicep by itself: what the compiler would refuse, as far as a grammar and a symbol table can tell."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
from tree_sitter import Node

from infra.reader import BICEP, FILES, BicepFile, read, text_of, walk

MAIN = BICEP / "main.bicep"
EACH_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)

FUNCTIONS = {
    "concat", "contains", "empty", "environment", "guid", "items", "listKeys", "loadTextContent", "replace",
    "resourceGroup", "string", "subscriptionResourceId", "take", "toLower", "union", "uniqueString", "utcNow",
}  # fmt: skip
FOR_MAY_STAND_IN = {
    "resource_declaration", "module_declaration", "variable_declaration", "output_declaration", "object_property",
}  # fmt: skip


def _used(file: BicepFile) -> set[str]:
    """Names that the file's expressions read: not the keys of objects, not members, not what is being declared."""
    return {text_of(node) for node in walk(file.root) if node.type == "identifier" and _is_read(node)}


def _is_read(node: Node) -> bool:
    above = node.parent
    assert above is not None
    if any(ancestor.type == "decorator" for ancestor in _ancestors(node)):
        return False
    declares = above.type.endswith("_declaration") or above.type == "object_property"
    return not (declares and above.named_children[0] == node)


def _ancestors(node: Node) -> list[Node]:
    found = []
    above = node.parent
    while above is not None:
        found.append(above)
        above = above.parent
    return found


def _loop_variables(file: BicepFile) -> set[str]:
    names: set[str] = set()
    for loop in (node for node in walk(file.root) if node.type == "for_statement"):
        first = loop.named_children[0]
        names |= {text_of(node) for node in (first.named_children or [first])}
    return names


@EACH_FILE
def test_the_grammar_knows_every_construct(path: Path) -> None:
    wrong = [node for node in walk(read(path).root) if node.type == "ERROR" or node.is_missing]
    assert not wrong, [(node.start_point.row + 1, text_of(node)[:60]) for node in wrong]


@EACH_FILE
def test_every_name_is_declared_and_every_declaration_is_used(path: Path) -> None:
    file = read(path)
    declared = file.params.keys() | file.variables.keys()
    symbols = file.resources.keys() | file.modules.keys()
    used = _used(file)
    assert used - declared - symbols - _loop_variables(file) - FUNCTIONS == set()
    assert declared - used == set(), "declared and never used"


@EACH_FILE
def test_loops_stand_only_where_the_language_allows_them(path: Path) -> None:
    """BCP138: a for-expression is the value of a declaration or of a property, not an argument of a function."""
    for node in walk(read(path).root):
        if node.type == "for_statement":
            assert node.parent is not None and node.parent.type in FOR_MAY_STAND_IN, text_of(node)


@EACH_FILE
def test_resources_are_flat(path: Path) -> None:
    """Nested resources are dropped without a word by the parser that the security checks stand on."""
    for node in walk(read(path).root):
        if node.type == "resource_declaration":
            assert node.parent is not None and node.parent.type == "infrastructure"


def test_children_name_their_parent_and_not_its_name() -> None:
    for path in FILES:
        for resource in read(path).resources.values():
            child = resource.type.count("/") > 1
            assert ("parent" in resource.body) == child, resource.symbol
            assert "/" not in str(resource.body["name"]).replace("'/", ""), resource.symbol


def test_modules_get_the_parameters_that_they_declare() -> None:
    main = read(MAIN)
    for module in main.modules.values():
        declared = read(BICEP / module.type).params
        given = module.body["params"].keys()
        assert given - declared.keys() == set(), module.symbol
        assert {name for name, default in declared.items() if default is None} - given == set(), module.symbol


def test_every_module_is_deployed() -> None:
    deployed = {BICEP / module.type for module in read(MAIN).modules.values()}
    assert deployed == set((BICEP / "modules").glob("*.bicep"))


def test_outputs_that_are_read_exist() -> None:
    main = read(MAIN)
    read_outputs = defaultdict(set)
    for node in walk(main.root):
        words = text_of(node).split(".")
        if node.type == "member_expression" and len(words) == 3 and words[1] == "outputs":
            read_outputs[words[0]].add(words[2])
    assert read_outputs
    for symbol, names in read_outputs.items():
        assert names - read(BICEP / main.modules[symbol].type).outputs.keys() == set(), symbol


def test_a_type_has_one_version() -> None:
    versions = defaultdict(set)
    for path in FILES:
        for resource in read(path).resources.values():
            versions[resource.type].add(resource.version)
    assert {kind: found for kind, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", ["dev", "prod", "main"])
def test_parameter_files_set_parameters_that_exist(name: str) -> None:
    given = json.loads((BICEP / f"{name}.parameters.json").read_text())["parameters"]
    declared = read(MAIN).params
    assert given.keys() - declared.keys() == set()
    assert {key for key, default in declared.items() if default is None} - given.keys() == set()


def test_production_is_private_redundant_and_never_cold() -> None:
    values = json.loads((BICEP / "prod.parameters.json").read_text())["parameters"]
    prod = {key: entry["value"] for key, entry in values.items()}
    assert prod["privateNetwork"] and prod["zoneRedundant"] and not prod["cosmosServerless"]
    assert prod["alwaysReadyHttp"] and prod["alwaysReadyBlob"]
    assert "openToInternet" not in prod


def test_nothing_is_open_by_default() -> None:
    params = read(MAIN).params
    assert params["openToInternet"] is False
    assert params["allowedAddresses"] == params["gatewayPrincipalIds"] == params["operatorPrincipalIds"] == []


def test_queries_and_workbook_that_are_loaded_exist() -> None:
    loaded = set()
    for path in FILES:
        for node in walk(read(path).root):
            if node.type == "call_expression" and text_of(node).startswith("loadTextContent("):
                loaded.add((path.parent / text_of(node).split("'")[1]).resolve())
    assert loaded == {*(BICEP / "kql").glob("*.kql"), BICEP / "workbook.json"}
