"""Reading an app's functions, and host.json."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest

from local.host.hostjson import HostConfig
from local.host.index import index, resolve
from shared.errors import ConfigurationError


def test_triggers_are_read_with_their_settings() -> None:
    app, blueprint = func.FunctionApp(), func.Blueprint()

    @blueprint.queue_trigger("msg", "%WORK%", "%CONNECTION%")
    def on_queue(msg: func.QueueMessage) -> None: ...

    @blueprint.timer_trigger("timer", "%SCHEDULE%", run_on_startup=True, use_monitor=False)
    async def on_timer(timer: func.TimerRequest) -> None: ...

    @app.blob_trigger("blob", "candidates/north/{name}.jpg", "Storage", source=func.BlobSource.EVENT_GRID)
    def on_blob(blob: func.InputStream, context: func.Context) -> None: ...

    @app.route("x")
    def on_http(req: func.HttpRequest) -> str:
        return ""

    app.register_functions(blueprint)
    found = index(app, {"WORK": "Train-Requests", "CONNECTION": "Storage", "SCHEDULE": "0 */5 * * * *"})
    (queue,), (timer,), (blob,), (http,) = found.queues, found.timers, found.blobs, found.http
    assert (queue.queue, queue.connection, queue.function.name) == ("train-requests", "Storage", "on_queue")
    assert (timer.schedule, timer.run_on_startup, timer.use_monitor) == ("0 */5 * * * *", True, False)
    assert timer.function.is_async
    assert (blob.container, blob.function.takes_context) == ("candidates", True)
    assert blob.pattern.fullmatch("north/cam/1.jpg")
    assert not blob.pattern.fullmatch("south/cam/1.jpg")
    assert not blob.pattern.fullmatch("north/.jpg")
    assert not blob.pattern.fullmatch("north/1_jpg")
    assert {"GET", "POST"} <= http.methods


def test_an_app_can_be_read_twice() -> None:
    app = func.FunctionApp()

    @app.route("x")
    def f(req: func.HttpRequest) -> str:
        return ""

    assert len(index(app, {}).http) == len(index(app, {}).http) == 1


def test_duplicate_names_are_refused() -> None:
    app = func.FunctionApp()

    @app.function_name("same")
    @app.route("x")
    def one(req: func.HttpRequest) -> str:
        return ""

    @app.function_name("same")
    @app.route("y")
    def two(req: func.HttpRequest) -> str:
        return ""

    with pytest.raises(ConfigurationError, match="same"):
        index(app, {})


def test_triggers_that_are_not_there_are_named() -> None:
    app = func.FunctionApp()

    @app.event_grid_trigger("event")
    def f(event: func.EventGridEvent) -> None: ...

    with pytest.raises(ConfigurationError, match="function f.*eventGridTrigger"):
        index(app, {})


def test_other_bindings_are_named() -> None:
    app = func.FunctionApp()

    @app.route("x")
    @app.queue_output("out", "queue-name", "Storage")
    def f(req: func.HttpRequest, out: Any) -> str:
        return ""

    with pytest.raises(ConfigurationError, match="function f.*'queue'"):
        index(app, {})


def test_parameters_must_be_the_trigger_s() -> None:
    app = func.FunctionApp()

    @app.queue_trigger("message", "queue-name", "Storage")
    def f(msg: func.QueueMessage) -> None: ...

    with pytest.raises(ConfigurationError, match="function f"):
        index(app, {})


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match="NO_SUCH"):
        resolve("x-%NO_SUCH%", {})
    assert resolve("100% sure", {}) == "100% sure"


def test_host_json_defaults_are_the_platform_s(tmp_path: Path) -> None:
    config = HostConfig.load(tmp_path / "host.json")
    assert (config.route_prefix, config.max_dequeue_count, config.poison_blob_threshold) == ("api", 5, 5)
    assert config.queue_concurrency == 24


def test_host_json_is_read(tmp_path: Path) -> None:
    queues = {"batchSize": 1, "newBatchThreshold": 0, "maxDequeueCount": 3, "visibilityTimeout": "00:01:30"}
    blobs = {"maxDegreeOfParallelism": 2, "poisonBlobThreshold": 7}
    document = {"extensions": {"http": {"routePrefix": "/v1/"}, "queues": queues, "blobs": blobs}}
    (tmp_path / "host.json").write_text(json.dumps(document))
    assert HostConfig.load(tmp_path / "host.json") == HostConfig("v1", 1, 0, 3, 90.0, 7, 2)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"extensions": {"queues": {"batchSize": 0}}}',
        '{"extensions": {"queues": {"batchSize": "many"}}}',
        '{"extensions": {"queues": {"visibilityTimeout": "soon"}}}',
        '{"extensions": {"queues": {"visibilityTimeout": 5}}}',
    ],
)
def test_a_host_json_that_cannot_be_used_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "host.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"host\.json"):
        HostConfig.load(tmp_path / "host.json")


@pytest.mark.parametrize(
    ("setting", "source", "event_grid"),
    [({}, "EventGrid", True), ({"FACERELAY_BLOB_TRIGGER_SOURCE": "polling"}, "LogsAndContainerScan", False)],
)
def test_one_setting_rules_the_decorator_and_the_host(setting: dict[str, str], source: str, event_grid: bool) -> None:
    program = (
        "import json, os; from function_app import app; from local.host.index import index;"
        "due = '0 0 * * * *';"
        "env = {'FACERELAY_TRAIN_SCHEDULE': due, 'FACERELAY_GROUP_SCHEDULE': due, **os.environ};"
        "(trigger,) = [f.get_trigger() for f in app.get_functions() if f.get_trigger().type == 'blobTrigger'];"
        "(blob,) = index(app, env).blobs;"
        "print(json.dumps([trigger.get_dict_repr()['source'], blob.event_grid]))"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FACERELAY_")} | setting
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [source, event_grid]
