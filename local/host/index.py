"""Which functions an app has, and what triggers each."""

from __future__ import annotations

import inspect
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import azure.functions as func

from shared.errors import ConfigurationError

_SETTING = re.compile(r"%([^%\s]+)%")
_PLACEHOLDER = re.compile(r"\{[^{}]+\}")


@dataclass(frozen=True, slots=True)
class InvocationContext:
    """What a function sees as its `context`: the fields of `azure.functions.Context`."""

    function_name: str
    invocation_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    function_directory: str = ""
    thread_local_storage: threading.local = field(default_factory=threading.local)
    trace_context: None = None
    retry_context: None = None


@dataclass(frozen=True, slots=True)
class Function:
    """One function of the app.

    Attributes:
        argument: name of the parameter that takes the trigger's object.
        takes_context: whether it has a `context` parameter.
        is_async: whether calling it gives a coroutine.
    """

    name: str
    call: Callable[..., Any]
    argument: str
    takes_context: bool
    is_async: bool

    def invoke(self, value: object) -> Any:
        """Calls it with the trigger's object; the result, or a coroutine when it is async."""
        arguments = {self.argument: value}
        if self.takes_context:
            arguments["context"] = InvocationContext(self.name)
        return self.call(**arguments)


@dataclass(frozen=True, slots=True)
class HttpTrigger:
    """`methods` in capitals; `route` without prefix and slashes at its ends."""

    function: Function
    route: str
    methods: frozenset[str]


@dataclass(frozen=True, slots=True)
class BlobTrigger:
    """A function that is fed with a container's blobs.

    Attributes:
        pattern: matches the names of those that it is for.
        event_grid: whether Event Grid tells of them; otherwise the container is looked through.
    """

    function: Function
    container: str
    pattern: re.Pattern[str]
    connection: str
    event_grid: bool


@dataclass(frozen=True, slots=True)
class QueueTrigger:
    function: Function
    queue: str
    connection: str


@dataclass(frozen=True, slots=True)
class TimerTrigger:
    """`schedule` is an NCRONTAB expression in UTC."""

    function: Function
    schedule: str
    run_on_startup: bool
    use_monitor: bool


@dataclass(frozen=True, slots=True)
class FunctionIndex:
    """All functions of an app by the kind of their trigger."""

    http: tuple[HttpTrigger, ...]
    blobs: tuple[BlobTrigger, ...]
    queues: tuple[QueueTrigger, ...]
    timers: tuple[TimerTrigger, ...]


def index(app: func.FunctionApp, env: Mapping[str, str]) -> FunctionIndex:
    """Reads the functions of `app`.

    Args:
        env: app settings that `%NAME%` in schedules, routes, queue names, paths and connections stands for.

    Raises:
        ConfigurationError: two functions of one name, a trigger or binding that this host does not have, a setting
            that is missing, a parameter that is.
    """
    # The SDK remembers the names it has seen and would call every function a duplicate the second time.
    app.functions_bindings = {}
    try:
        functions = app.get_functions()
    except ValueError as error:
        raise ConfigurationError(f"the function app cannot be used: {error}") from error
    triggers = [_trigger(function, env) for function in functions]
    return FunctionIndex(
        http=tuple(t for t in triggers if isinstance(t, HttpTrigger)),
        blobs=tuple(t for t in triggers if isinstance(t, BlobTrigger)),
        queues=tuple(t for t in triggers if isinstance(t, QueueTrigger)),
        timers=tuple(t for t in triggers if isinstance(t, TimerTrigger)),
    )


def resolve(text: str, env: Mapping[str, str]) -> str:
    """`text` with each `%NAME%` replaced by the app setting of that name.

    >>> resolve("%QUEUE%-poison", {"QUEUE": "work"})
    'work-poison'

    Raises:
        ConfigurationError: there is no such setting.
    """

    def value(match: re.Match[str]) -> str:
        try:
            return env[match[1]]
        except KeyError:
            raise ConfigurationError(f"the app setting {match[1]} is not set; a binding needs it") from None

    return _SETTING.sub(value, text)


def _trigger(function: Any, env: Mapping[str, str]) -> HttpTrigger | BlobTrigger | QueueTrigger | TimerTrigger:
    trigger, name = function.get_trigger(), function.get_function_name()
    for binding in function.get_bindings():
        if binding is not trigger and binding.type != "http":
            raise ConfigurationError(f"function {name}: the embedded host has no binding {binding.type!r}")
    called = _function(name, function.get_user_function(), trigger.name)
    values = trigger.get_dict_repr()
    match trigger.type:
        case "httpTrigger":
            methods = values.get("methods") or list(func.HttpMethod)
            route = resolve(str(values.get("route") or name), env).strip("/")
            return HttpTrigger(called, route, frozenset(str(getattr(m, "value", m)).upper() for m in methods))
        case "blobTrigger":
            container, _, pattern = resolve(values["path"], env).partition("/")
            return BlobTrigger(
                called,
                container,
                _blob_pattern(pattern),
                resolve(values["connection"], env),
                event_grid=values.get("source") == func.BlobSource.EVENT_GRID.value,
            )
        case "queueTrigger":
            return QueueTrigger(called, resolve(values["queueName"], env).lower(), resolve(values["connection"], env))
        case "timerTrigger":
            return TimerTrigger(
                called,
                resolve(values["schedule"], env),
                run_on_startup=bool(values.get("runOnStartup")),
                use_monitor=values.get("useMonitor") is not False,
            )
    raise ConfigurationError(f"function {name}: the embedded host has no trigger {trigger.type!r}")


def _function(name: str, call: Callable[..., Any], argument: str) -> Function:
    parameters = inspect.signature(call).parameters
    extra = set(parameters) - {argument, "context"}
    if argument not in parameters or extra:
        raise ConfigurationError(f"function {name}: its parameters are not its trigger's ({argument!r}) and 'context'")
    return Function(name, call, argument, "context" in parameters, inspect.iscoroutinefunction(call))


def _blob_pattern(pattern: str) -> re.Pattern[str]:
    """Literal text and `{placeholders}`, each for one character or more; nothing at all for any name."""
    literals = [re.escape(literal) for literal in _PLACEHOLDER.split(pattern)]
    return re.compile("(.+)".join(literals) if pattern else ".+", re.DOTALL)
