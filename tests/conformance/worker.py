"""Microsoft's Python worker library in this process, asked what the Functions host would ask it.

Python 3.13 only, and one app for each process: the library keeps what it indexed in module globals.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as library  # type: ignore[import-not-found, unused-ignore]

from tests.conformance.protocol import PROTOS, Message, ParameterBinding, RpcHttp, StatusResult, TypedData


class RefusedError(Exception):
    """The library answered with a failure; the text is its own."""


class Worker:
    """One app, indexed and ready to be invoked.

    Args:
        app: folder of `function_app.py`, put before everything else on the import path as the platform does.

    Raises:
        RefusedError: the app cannot be indexed or a function cannot be loaded.
    """

    def __init__(self, app: Path) -> None:
        sys.path.insert(0, str(app))
        self._loop = asyncio.new_event_loop()
        library.start_threadpool_executor()
        self._ask(library.worker_init_request, worker_init_request=_Init(str(app)))
        answer = self._ask(library.functions_metadata_request)
        self.functions: dict[str, Message] = {f.name: f for f in answer.function_metadata_results or ()}
        for function in self.functions.values():
            wanted = SimpleNamespace(function_id=function.function_id, metadata=function)
            loaded = self._ask(library.function_load_request, function_load_request=wanted)
            assert loaded.function_id == function.function_id

    def invoke(self, function: str, inputs: dict[str, TypedData], trigger_metadata: dict[str, TypedData]) -> Message:
        """One invocation; the library's answer.

        Raises:
            RefusedError: the function raised, or the library could not convert what went in or came out.
        """
        request = SimpleNamespace(
            invocation_id=str(uuid.uuid4()),
            function_id=self.functions[function].function_id,
            input_data=[ParameterBinding(name=name, data=data) for name, data in inputs.items()],
            trigger_metadata=trigger_metadata,
            trace_context=SimpleNamespace(
                trace_parent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", trace_state="", attributes={}
            ),
            retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
        )
        return self._ask(library.invocation_request, invocation_request=request)

    def close(self) -> None:
        """Ends threads and loop; the library's registry stays."""
        library.stop_threadpool_executor()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _ask(self, handler: Any, **request: Any) -> Message:
        envelope = SimpleNamespace(
            request=SimpleNamespace(**request), properties={"host": "127.0.0.1", "protos": PROTOS}
        )
        answer: Message = self._loop.run_until_complete(handler(envelope))
        if answer.result.status != StatusResult.Success:
            raise RefusedError(f"{answer.result.exception.message}\n{answer.result.exception.stack_trace}")
        return answer


class _Init(SimpleNamespace):
    """WorkerInitRequest."""

    def __init__(self, app: str) -> None:
        super().__init__(function_app_directory=app, worker_directory=app, capabilities={}, host_version="4.1044.400")


__all__ = ["RefusedError", "RpcHttp", "TypedData", "Worker"]
