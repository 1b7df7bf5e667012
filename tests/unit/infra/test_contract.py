"""The Bicep beside the code: every setting, container, queue and role that one side has, the other has too."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest
from pydantic import SecretStr

from function_app import app
from infra.reader import BICEP, ROOT, BicepFile, read, text_of, value_of, walk
from shared import domain
from shared.adapters.azure import cosmos_schema
from shared.messages import TRAIN_QUEUE
from shared.settings import Settings

ROLE_IDS = {
    "blobDataOwner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "blobDataContributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "queueDataContributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "tableDataContributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "metricsPublisher": "3913510d-42f4-4e42-8a64-420c390055eb",
}
"""Of Microsoft's list of built-in roles."""

LEFT_AT_DEFAULT = {
    "PACK", "EXTRA_PACKS", "INFERENCE_THREADS", "MAX_IMAGE_BYTES", "MAX_IMAGE_PIXELS", "MAX_IMAGE_FRAMES", "MAX_FACES",
    "RECOGNIZE_MIN_FACE_PX", "RECOGNIZE_MIN_SIZE_PX", "RECOGNIZE_MIN_SHARPNESS", "RECOGNIZE_MIN_CONFIDENCE",
    "RECOGNIZE_MAX_YAW", "RECOGNIZE_MAX_PITCH", "RECOGNIZE_MAX_ROLL", "RECOGNIZE_MAX_DARK", "RECOGNIZE_MAX_BRIGHT",
    "RECOGNIZE_MIN_CONTRAST", "ENROLL_MAX_YAW", "ENROLL_MAX_PITCH", "ENROLL_MAX_ROLL", "ENROLL_MAX_DARK",
    "ENROLL_MAX_BRIGHT", "ENROLL_MIN_CONTRAST", "ENROLL_MIN_FACE_PX",
    "ENROLL_MIN_SHARPNESS", "ENROLL_MIN_CONFIDENCE",
    "TARGET_FPIR", "BEST_SHOT_FPIR", "VISIT_FPIR", "MODEL_POLL_S", "TRAIN_HTTP_WAIT_S", "LEASE_TTL_S",
    "STORE_UNKNOWN_EMBEDDINGS", "WEBHOOK_TIMEOUT_S", "TOKEN_CACHE_S", "RATE_LIMIT", "RATE_LIMIT_ANONYMOUS",
    "CORS_ORIGINS", "UPLOAD_SAS_MINUTES", "ALERT_GIVE_UP_S", "ALERT_RETRY_S", "SMTP_PORT", "SMTP_SECURITY",
    "SMTP_TIMEOUT_S", "VISIT_GAP_S", "VISIT_SIMILARITY", "GROUP_UNKNOWN", "GROUP_MIN_FACES",
}  # fmt: skip
"""Good in the cloud as they are; the parameter `extraSettings` changes them."""

ONE_MACHINE_ONLY = {
    "DATA_DIR", "MODEL_SOURCES", "RETENTION_SCHEDULE", "STORAGE_CONNECTION_STRING", "COSMOS_KEY",
}  # fmt: skip
"""Of the local backend, of emulators, and of fetching weights: without meaning in the cloud."""

GIVEN_BY_THE_OPERATOR = {"ALERT_FROM", "ALERT_TO", "ALERT_RULES", "SMTP_HOST", "SMTP_USER"}
"""Through `extraSettings`; without them nobody is alerted."""

SECRETS = {"WEBHOOK_URL", "WEBHOOK_SECRET", "SMTP_PASSWORD"}
"""Through `secretSettings`, which the platform does not show in a deployment's record."""

HOST_SUFFIXES = {"credential", "clientId", "blobServiceUri", "queueServiceUri"}


@cache
def module(name: str) -> BicepFile:
    return read(BICEP / "modules" / f"{name}.bicep")


@cache
def bindings() -> list[dict[str, Any]]:
    """Every trigger of the app, as the host reads it."""
    app.functions_bindings = {}  # else the SDK takes a second reading for duplicates
    found = []
    for function in app.get_functions():
        trigger = function.get_trigger()
        assert trigger is not None
        found.append({"function": function.get_function_name(), **trigger.get_dict_repr()})
    return found


def triggers(kind: str) -> list[dict[str, Any]]:
    found = [binding for binding in bindings() if binding["type"] == kind]
    assert found, f"the app has no {kind}"
    return found


def app_settings() -> dict[str, Any]:
    variables = module("functions").variables
    return {**variables["appSettings"], **variables["hostSettings"]}


def test_every_setting_is_set_or_known_to_be_good_as_it_is() -> None:
    known = {f"FACERELAY_{name.upper()}" for name in Settings.model_fields}
    in_bicep = {name for name in app_settings() if name.startswith("FACERELAY_")}
    elsewhere = {f"FACERELAY_{name}" for name in LEFT_AT_DEFAULT | ONE_MACHINE_ONLY | GIVEN_BY_THE_OPERATOR | SECRETS}
    assert in_bicep - known == set(), "set in the cloud, and read by nobody"
    assert elsewhere - known == set(), "listed here, and gone from the code"
    assert in_bicep & elsewhere == set()
    assert known - in_bicep - elsewhere == set(), "a new setting: set it in functions.bicep, or list it in this test"


def test_every_secret_goes_the_way_of_secrets() -> None:
    secret = {name.upper() for name, field in Settings.model_fields.items() if field.annotation is SecretStr}
    assert secret - ONE_MACHINE_ONLY <= SECRETS
    text = (ROOT / "docs" / "deploy.md").read_text()
    for name in SECRETS:
        assert f"FACERELAY_{name}" in text
    for path in (BICEP / "main.bicep", BICEP / "modules" / "functions.bicep"):
        before = path.read_text().split("param secretSettings object")[0]
        assert "@secure()" in before.splitlines()[-2:], path.name


def test_tokens_cannot_be_switched_off_by_a_parameter() -> None:
    functions = module("functions").variables
    assert functions["hostSettings"]["FACERELAY_AUTH"] == "true"
    assert functions["settings"] == "union(appSettings, extraSettings, secretSettings, hostSettings)"


def test_what_a_trigger_reads_of_the_environment_is_set() -> None:
    named = {name for binding in bindings() for name in re.findall(r"%([^%]+)%", str(binding))}
    assert named
    assert named <= app_settings().keys()


def test_every_connection_is_an_identity_for_blobs_and_queues() -> None:
    connections = {binding["connection"] for binding in bindings() if "connection" in binding} | {"AzureWebJobsStorage"}
    for connection in connections:
        given = {name.partition("__")[2] for name in app_settings() if name.startswith(f"{connection}__")}
        assert given >= HOST_SUFFIXES, connection
        assert app_settings()[f"{connection}__credential"] == "managedidentity"
    prefixes = {name.partition("__")[0] for name in app_settings() if "__" in name}
    assert prefixes == connections, "settings of a connection that no trigger has"


def test_the_settings_are_those_that_flex_consumption_takes() -> None:
    refused = {
        "FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_EXTENSION_VERSION", "WEBSITE_RUN_FROM_PACKAGE",
        "SCM_DO_BUILD_DURING_DEPLOYMENT", "AzureWebJobsStorage",
    }  # fmt: skip
    assert app_settings().keys() & refused == set()


def test_containers_are_those_of_the_code() -> None:
    assert tuple(module("storage").variables["dataContainers"]) == domain.BLOB_CONTAINERS
    for trigger in triggers("blobTrigger"):
        assert trigger["path"].split("/")[0] in domain.BLOB_CONTAINERS


def test_the_containers_of_the_platform_are_used_by_the_platform() -> None:
    deployments, deadletters = module("storage").variables["hostContainers"]
    app = module("functions").resources["app"].body["properties"]
    assert str(app["functionAppConfig"]["deployment"]["storage"]["value"]).endswith(f"}}{deployments}'")
    events = read(BICEP / "eventgrid-subscription.bicep").resources["subscription"].body["properties"]
    destination = events["deadLetterWithResourceIdentity"]["deadLetterDestination"]["properties"]
    assert destination["blobContainerName"] == deadletters
    assert module("roles").resources["deadletters"].body["name"] == deadletters


def test_queues_are_those_of_the_triggers_and_their_poison_queues() -> None:
    queues = {trigger["queueName"] for trigger in triggers("queueTrigger")}
    assert TRAIN_QUEUE in queues
    poison = {f"{queue}-poison" for queue in queues} | {"webjobs-blobtrigger-poison"}
    assert set(module("storage").variables["queueNames"]) == queues | poison


def test_candidates_expire_and_nothing_else_that_is_ours() -> None:
    rules = module("storage").resources["lifecycle"].body["properties"]["policy"]["rules"]
    expiring = {
        rule["definition"]["filters"]["prefixMatch"][0]: rule["definition"]["actions"]["baseBlob"]["delete"]
        for rule in rules
    }
    assert expiring[f"{domain.CANDIDATES}/"] == {"daysAfterModificationGreaterThan": "candidateRetentionDays"}
    assert {prefix.strip("/") for prefix in expiring} & set(domain.BLOB_CONTAINERS) == {domain.CANDIDATES}


def test_retention_is_one_number_for_the_app_and_for_the_stores() -> None:
    main = read(BICEP / "main.bicep")
    settings = app_settings()
    for store, kind in (("storage", "candidate"), ("cosmos", "detection")):
        name = f"{kind}RetentionDays"
        assert main.modules[store].body["params"][name] == main.modules["functions"].body["params"][name] == name
        assert main.params[name] == Settings.model_fields[f"{kind}_retention_days"].default
        assert settings[f"FACERELAY_{kind.upper()}_RETENTION_DAYS"] == f"string({name})"


def test_cosmos_containers_are_the_schema() -> None:
    cosmos = module("cosmos")
    deployed = {item["name"]: item["resource"] for item in cosmos.variables["containers"]}
    assert list(deployed) == [schema.name for schema in cosmos_schema.CONTAINERS]
    assert cosmos.variables["daySeconds"] == cosmos_schema.DAY_S
    for schema in cosmos_schema.CONTAINERS:
        resource = deployed[schema.name]
        assert resource["partitionKey"] == {"kind": "Hash", "version": 2, "paths": [schema.partition_key]}
        assert resource["indexingPolicy"] == schema.indexing_policy(), schema.name
        assert _seconds(resource.get("defaultTtl")) == schema.default_ttl_s, schema.name


def test_the_container_of_vectors_is_the_schema() -> None:
    cosmos, schema = module("cosmos"), cosmos_schema.VECTOR_CONTAINER
    lengths = read(BICEP / "main.bicep").params["vectorLengths"]
    assert lengths == list(schema.vectors)
    item = cosmos.variables["vectorContainer"]
    resource = item["resource"]
    assert item["name"] == schema.name
    assert resource["partitionKey"] == {"kind": "Hash", "version": 2, "paths": [schema.partition_key]}
    assert resource["defaultTtl"] == schema.default_ttl_s
    policy = {
        name: _of_each_length(cosmos, value, lengths) for name, value in resource["vectorEmbeddingPolicy"].items()
    }
    assert policy == schema.vector_policy()
    indexing = {name: _of_each_length(cosmos, value, lengths) for name, value in resource["indexingPolicy"].items()}
    assert indexing == schema.indexing_policy()


def test_vector_search_is_one_switch_for_the_account_the_container_and_the_app() -> None:
    cosmos, main = module("cosmos"), read(BICEP / "main.bicep")
    assert main.params["vectorSearch"] is False, "an account keeps the capability for ever"
    assert re.sub(r"\s", "", cosmos.variables["allContainers"]) == (
        "vectorSearch?concat(containers,[vectorContainer]):containers"
    )
    assert "EnableNoSQLVectorSearch" in cosmos.variables["vectorCapability"]
    assert cosmos.variables["vectorCapability"].startswith("vectorSearch ?")
    assert "in allContainers" in text_of_resource(cosmos, "container")
    assert main.modules["functions"].body["params"]["vectorSearchAbove"] == "vectorSearch ? vectorSearchAbove : 0"
    assert app_settings()["FACERELAY_VECTOR_SEARCH_ABOVE"] == "string(vectorSearchAbove)"
    assert Settings.model_fields["vector_search_above"].default == 0


def test_the_containers_version_knows_what_a_graph_for_each_model_takes() -> None:
    """`vectorIndexShardKey` came with 2025-10-15; an older version drops or refuses it."""
    assert module("cosmos").resources["container"].version >= "2025-10-15"


def text_of_resource(file: BicepFile, symbol: str) -> str:
    (found,) = [
        text_of(node)
        for node in walk(file.root)
        if node.type == "resource_declaration" and text_of(node).startswith(f"resource {symbol} ")
    ]
    return found


def _of_each_length(file: BicepFile, value: Any, lengths: list[int]) -> Any:
    """A variable that is a loop over the lengths, written out; anything else as it is."""
    if value not in ("vectorEmbeddings", "vectorIndexes"):
        return value
    text = str(file.variables[value])
    assert text.startswith("[for size in vectorLengths: {")
    (declared,) = [node for node in walk(file.root) if node.type == "for_statement" and text_of(node).strip() in text]
    body = value_of(next(node for node in walk(declared) if node.type == "object"))

    def written(part: Any, length: int) -> Any:
        return (
            length
            if part == "size"
            else part.strip("'").replace("${size}", str(length))
            if isinstance(part, str)
            else part
        )

    return [{name: written(part, length) for name, part in body.items()} for length in lengths]


def _seconds(ttl: Any) -> int | None:
    """A time to live with the default retention put in."""
    if ttl is None or isinstance(ttl, int):
        return ttl
    days = ttl.removesuffix(" * daySeconds")
    default = Settings.model_fields["detection_retention_days"].default
    return int(default if days == "detectionRetentionDays" else days) * cosmos_schema.DAY_S


def test_the_database_has_the_name_that_the_code_expects() -> None:
    assert read(BICEP / "main.bicep").variables["databaseName"] == Settings.model_fields["cosmos_database"].default


def test_roles_are_the_least_that_the_app_works_with() -> None:
    roles = module("roles")
    assert roles.variables["roleIds"] == ROLE_IDS
    granted = {
        (str(role.body["scope"]), role.body["properties"]["roleDefinitionId"].split("roleIds.")[1].rstrip(")"))
        for role in roles.of_type("Microsoft.Authorization/roleAssignments")
        if role.body["properties"]["principalId"] == "appPrincipalId"
    }
    assert granted == {
        ("storage", "blobDataOwner"),  # host leases, blob trigger, index tags, user delegation keys
        ("storage", "queueDataContributor"),  # blob and queue triggers, poison queues
        ("storage", "tableDataContributor"),  # the host's diagnostic events
        ("insights", "metricsPublisher"),  # telemetry without a key
    }


def test_no_role_reaches_beyond_the_data() -> None:
    roles = module("roles")
    for role in roles.of_type("Microsoft.Authorization/roleAssignments"):
        scope = roles.resources[str(role.body["scope"])]
        assert scope.existing and not scope.type.startswith("Microsoft.Resources"), role.symbol
    for role in roles.of_type("Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments"):
        assert role.body["properties"]["scope"] == "cosmosScope"
    assert roles.variables["cosmosScope"] == "'${cosmos.id}/dbs/${cosmosDatabase}'"
    assert roles.variables["cosmosDataContributor"].endswith("/00000000-0000-0000-0000-000000000002'")


def test_a_gateway_may_write_candidates_and_find_its_own_again() -> None:
    """`edge_uploader/delivery/uploader.py` writes if absent, and looks at what is there when something is."""
    roles = module("roles")
    assignment = roles.resources["gateways"].body
    assert assignment["scope"] == domain.CANDIDATES
    assert "/blobs/read" in assignment["properties"]["condition"]
    assert "Blob.List" in assignment["properties"]["condition"]
    [permission] = roles.resources["gatewayRole"].body["properties"]["permissions"]
    assert permission["actions"] == []
    verbs = {action.split("/blobs/")[1] for action in permission["dataActions"]}
    assert verbs == {"add/action", "read", "write", "tags/write"}


def test_events_of_candidates_reach_the_blob_trigger() -> None:
    file = read(BICEP / "eventgrid-subscription.bicep")
    [trigger] = triggers("blobTrigger")
    assert file.params["functionName"] == trigger["function"]
    events = file.resources["subscription"].body["properties"]
    assert events["filter"]["subjectBeginsWith"] == f"/blobServices/default/containers/{domain.CANDIDATES}/blobs/"
    [finished] = events["filter"]["advancedFilters"]
    assert set(finished["values"]) == {"PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose"}
    assert "Host.Functions.${functionName}" in events["destination"]["properties"]["endpointUrl"]


def test_the_app_runs_on_a_python_that_the_requirements_know() -> None:
    pins = re.findall(r"^azure-functions==.*$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert any('python_version >= "3.13"' in pin for pin in pins)
    assert read(BICEP / "main.bicep").params["pythonVersion"] == "3.13"


@pytest.mark.parametrize("name", sorted(path.stem for path in (BICEP / "kql").glob("*.kql")))
def test_a_query_speaks_of_what_there_is(name: str) -> None:
    query_text = (BICEP / "kql" / f"{name}.kql").read_text()
    functions = {binding["function"] for binding in bindings()}
    assert set(re.findall(r'(?:Name|OperationName) == "([a-z]+_[a-z_]+)"', query_text)) <= functions
    containers = set(re.findall(r'has "/([a-z]+)/"', query_text)) | set(re.findall(r'endswith "/([a-z]+)/', query_text))
    assert containers <= set(domain.BLOB_CONTAINERS)
    queried = {alert["name"] for alert in module("alerts").variables["logAlerts"]}
    assert name in queried


def test_stores_refuse_keys_and_old_tls() -> None:
    storage = module("storage").resources["account"].body["properties"]
    assert storage["allowSharedKeyAccess"] is False and storage["allowBlobPublicAccess"] is False
    assert storage["minimumTlsVersion"] == "TLS1_2" and storage["supportsHttpsTrafficOnly"] is True
    cosmos = module("cosmos").resources["account"].body["properties"]
    assert cosmos["disableLocalAuth"] is True and cosmos["minimalTlsVersion"] == "Tls12"
    assert module("monitoring").resources["insights"].body["properties"]["DisableLocalAuth"] is True


def test_the_workbook_asks_for_what_there_is() -> None:
    workbook = json.loads((BICEP / "workbook.json").read_text())
    names = [item["name"] for item in workbook["items"]]
    assert len(names) == len(set(names))
    queries = [item["content"]["query"] for item in workbook["items"] if item["type"] == 3]
    functions = {binding["function"] for binding in bindings()}
    for text in queries:
        assert set(re.findall(r'(?:Name|OperationName) == "([a-z]+_[a-z_]+)"', text)) <= functions
        assert set(re.findall(r'"/([a-z]+)/', text)) <= set(domain.BLOB_CONTAINERS)
    placeholders = set(re.findall(r"__[A-Z]+__", json.dumps(workbook)))
    assert all(placeholder in module("workbook").variables["content"] for placeholder in placeholders)
