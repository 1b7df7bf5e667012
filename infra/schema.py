"""Are the properties of the resources there, and of the right kind?

Asked of the models in Microsoft's management SDK, made from the same API descriptions as the compiler's types. Their
API versions are not exactly the Bicep's, and an enumeration that the SDK takes as plain text is not checked: a compiler
says more. It finds what is commonest: a misspelt or misplaced property, and text where a number belongs.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any, Final

from infra.reader import BICEP, FILES, Expression, read

MODELS: Final = {
    "Microsoft.Authorization/roleAssignments": ("authorization", "RoleAssignmentCreateParameters"),
    "Microsoft.Authorization/roleDefinitions": ("authorization", "RoleDefinition"),
    "Microsoft.DocumentDB/databaseAccounts": ("cosmosdb", "DatabaseAccountCreateUpdateParameters"),
    "Microsoft.DocumentDB/databaseAccounts/sqlDatabases": ("cosmosdb", "SqlDatabaseCreateUpdateParameters"),
    "Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments": ("cosmosdb", "SqlRoleAssignmentCreateUpdateParameters"),
    "Microsoft.EventGrid/systemTopics": ("eventgrid", "SystemTopic"),
    "Microsoft.EventGrid/systemTopics/eventSubscriptions": ("eventgrid", "EventSubscription"),
    "Microsoft.Insights/actionGroups": ("monitor", "ActionGroupResource"),
    "Microsoft.Insights/diagnosticSettings": ("monitor", "DiagnosticSettingsResource"),
    "Microsoft.Insights/metricAlerts": ("monitor", "MetricAlertResource"),
    "Microsoft.Insights/scheduledQueryRules": ("monitor", "ScheduledQueryRuleResource"),
    "Microsoft.Network/networkSecurityGroups": ("network", "NetworkSecurityGroup"),
    "Microsoft.Network/privateDnsZones": ("privatedns", "PrivateZone"),
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": ("privatedns", "VirtualNetworkLink"),
    "Microsoft.Network/privateEndpoints": ("network", "PrivateEndpoint"),
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups": ("network", "PrivateDnsZoneGroup"),
    "Microsoft.Network/virtualNetworks": ("network", "VirtualNetwork"),
    "Microsoft.Network/virtualNetworks/subnets": ("network", "Subnet"),
    "Microsoft.Storage/storageAccounts": ("storage", "StorageAccount"),
    "Microsoft.Storage/storageAccounts/blobServices": ("storage", "BlobServiceProperties"),
    "Microsoft.Storage/storageAccounts/blobServices/containers": ("storage", "BlobContainer"),
    "Microsoft.Storage/storageAccounts/managementPolicies": ("storage", "ManagementPolicy"),
    "Microsoft.Storage/storageAccounts/queueServices": ("storage", "QueueServiceProperties"),
    "Microsoft.Storage/storageAccounts/queueServices/queues": ("storage", "StorageQueue"),
    "Microsoft.Web/serverfarms": ("web", "AppServicePlan"),
    "Microsoft.Web/sites": ("web", "Site"),
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": ("web", "CsmPublishingCredentialsPoliciesEntity"),
}
OF_BICEP: Final = {"parent", "scope", "dependsOn", "name"}
PLAIN: Final[Mapping[str, type]] = {"str": str, "int": int, "bool": bool}

_DOT: Final = "\0"
"""Stands for a dot that is part of a name (`odata.type`), where others lead from one object into the next."""


@cache
def _modules(package: str) -> list[ModuleType]:
    """The SDK's models, newest API version first."""
    root = importlib.import_module(f"azure.mgmt.{package}")
    dated = sorted((m.name for m in pkgutil.iter_modules(root.__path__) if re.match(r"v\d", m.name)), reverse=True)
    names = [f"{root.__name__}.models", *(f"{root.__name__}.{name}.models" for name in dated)]
    found = []
    for name in names:
        try:
            found.append(importlib.import_module(name))
        except ModuleNotFoundError:
            continue
    return found


def _model(package: str, name: str) -> tuple[Any, ModuleType]:
    for module in _modules(package):
        if hasattr(module, name):
            return getattr(module, name), module
    raise LookupError(f"azure-mgmt-{package} has no {name}")


def _fields(model: Any, module: ModuleType) -> dict[str, str]:
    """Path in the JSON to type, of a model and its variants."""
    variants = [name for kinds in getattr(model, "_subtype_map", {}).values() for name in kinds.values()]
    models = [model, *(getattr(module, name) for name in variants if hasattr(module, name))]
    entries = [entry for each in models for entry in each._attribute_map.values()]
    return {entry["key"].replace("\\.", _DOT): entry["type"] for entry in entries}


def _object(value: dict[str, Any], fields: dict[str, str], module: ModuleType, path: str) -> Iterator[str]:
    for name, inner in value.items():
        key, here = name.replace(".", _DOT), f"{path}.{name}"
        below = {field[len(key) + 1 :]: kind for field, kind in fields.items() if field.startswith(f"{key}.")}
        if key in fields:
            yield from _value(inner, fields[key], module, here)
        elif not below:
            yield f"{here} is not a property; there are {', '.join(sorted(fields))}"
        elif isinstance(inner, dict):
            yield from _object(inner, below, module, here)


def _value(value: Any, kind: str, module: ModuleType, path: str) -> Iterator[str]:
    if value is None or isinstance(value, Expression) or kind.startswith("{"):
        return
    if kind.startswith("["):
        if not isinstance(value, list):
            yield f"{path} is not a list"
            return
        for index, item in enumerate(value):
            yield from _value(item, kind[1:-1], module, f"{path}[{index}]")
        return
    model = getattr(module, kind, None)
    if hasattr(model, "_attribute_map"):
        if isinstance(value, dict):
            yield from _object(value, _fields(model, module), module, path)
        else:
            yield f"{path} is not an object"
    elif kind in PLAIN and not isinstance(value, PLAIN[kind]):
        yield f"{path} = {value!r} is not {kind}"


def complaints() -> list[str]:
    """What is wrong with the properties of all resources that the SDK has models for."""
    wrong: list[str] = []
    for path in FILES:
        for resource in read(path).resources.values():
            if not resource.existing and resource.type in MODELS:
                model, module = _model(*MODELS[resource.type])
                body = {name: value for name, value in resource.body.items() if name not in OF_BICEP}
                wrong += _object(body, _fields(model, module), module, f"{path.stem}: {resource.symbol}")
    model, module = _model("cosmosdb", "SqlContainerResource")
    cosmos = read(BICEP / "modules" / "cosmos.bicep").variables
    for item in (*cosmos["containers"], cosmos["vectorContainer"]):
        wrong += _object(item["resource"], _fields(model, module), module, f"cosmos: {item['name']}")
    return wrong
