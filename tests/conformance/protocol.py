"""The messages of FunctionRpc, as far as Microsoft's worker library reads and makes them.

The host and the worker talk protobuf over gRPC. The library gets the message classes handed in and only ever sets and
reads fields, so plain objects with the same fields do; like the real ones, they refuse a field they do not have.
Names from azure-functions-language-worker-protobuf, `FunctionRpc.proto`.
"""

from __future__ import annotations

from enum import IntEnum
from types import SimpleNamespace
from typing import Any


class Message(SimpleNamespace):
    """A message: fields that were not set are None."""

    fields: tuple[str, ...] = ()

    def __init__(self, **values: Any) -> None:
        if unknown := values.keys() - set(self.fields):
            raise ValueError(f"{type(self).__name__} has no field {sorted(unknown)}")
        super().__init__(**dict.fromkeys(self.fields) | values)

    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802 - protobuf's name
        """The one field that is set."""
        return next((name for name in self.fields if getattr(self, name) is not None), None)


class StatusResult(Message):
    fields = ("status", "exception")

    Failure = 0
    Success = 1


class BindingInfo(Message):
    fields = ("type", "direction", "data_type", "properties")

    out = 1
    inout = 2
    undefined = 0


class SameSite(IntEnum):
    Lax = 1
    Strict = 2
    ExplicitNone = 3


class TypedData(Message):
    fields = ("string", "json", "bytes", "http", "int", "double", "collection_bytes", "collection_string")


class RpcHttp(Message):
    fields = (
        *("method", "url", "headers", "body", "params", "query"),
        *("status_code", "cookies", "enable_content_negotiation"),
    )


class ParameterBinding(Message):
    fields = ("name", "data")

    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802 - protobuf's name
        """Of its group `rpc_data`, which `name` is no part of."""
        return None if self.data is None else "data"


def _message(name: str, *fields: str) -> type[Message]:
    return type(name, (Message,), {"fields": fields})


PROTOS = SimpleNamespace(
    BindingInfo=BindingInfo,
    FunctionLoadResponse=_message("FunctionLoadResponse", "function_id", "result"),
    FunctionMetadataResponse=_message(
        "FunctionMetadataResponse", "use_default_metadata_indexing", "function_metadata_results", "result"
    ),
    InvocationResponse=_message("InvocationResponse", "invocation_id", "output_data", "return_value", "result"),
    ParameterBinding=ParameterBinding,
    RpcException=_message("RpcException", "message", "stack_trace"),
    RpcFunctionMetadata=_message(
        "RpcFunctionMetadata",
        *("name", "function_id", "managed_dependency_enabled", "directory", "script_file", "entry_point", "is_proxy"),
        *("language", "bindings", "raw_bindings", "retry_options", "properties"),
    ),
    RpcHttp=RpcHttp,
    StatusResult=StatusResult,
    TypedData=TypedData,
    WorkerInitResponse=_message("WorkerInitResponse", "capabilities", "worker_metadata", "result"),
    WorkerMetadata=_message(
        "WorkerMetadata", "runtime_name", "runtime_version", "worker_version", "worker_bitness", "custom_properties"
    ),
)
"""What the library is given in place of the generated module."""
