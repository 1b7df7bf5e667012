"""Log lines that a collector can read, and that give nothing away."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider

from local.logs import JsonFormatter
from shared import telemetry
from shared.adapters.local import LocalBlobStore, LocalStore
from shared.domain import DATASET
from shared.errors import StoreUnavailable


def line(record: logging.LogRecord) -> dict[str, object]:
    text = JsonFormatter().format(record)
    assert "\n" not in text
    found: dict[str, object] = json.loads(text)
    return found


def record(message: str = "model live", *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("shared.model_registry", logging.INFO, "x.py", 1, message, args, None)
    vars(made).update(extra)
    return made


def test_a_record_is_one_object_on_one_line() -> None:
    made = record("two\nlines of %s", "é", action="model.live", model_id="m1", count=3, reason=None)
    made.created = 1_767_323_045.678
    assert line(made) == {
        "time": "2026-01-02T03:04:05.678Z",
        "level": "info",
        "logger": "shared.model_registry",
        "message": "two\nlines of é",
        "action": "model.live",
        "model_id": "m1",
        "count": 3,
        "reason": None,
    }


def test_bytes_and_arrays_are_named_and_not_shown() -> None:
    found = line(record(image=b"\xff\xd8secret", embedding=np.ones(512, np.float32), people=["ann"]))
    assert (found["image"], found["embedding"], found["people"]) == ("<bytes>", "<ndarray>", "<list>")


def test_an_error_comes_with_its_traceback() -> None:
    made = record()
    try:
        raise KeyError("x")
    except KeyError:
        made.exc_info = sys.exc_info()
    assert "test_an_error_comes_with_its_traceback" in str(line(made)["exception"])


def test_a_disk_that_fails_does_not_tell_whose_photo_it_was(tmp_path: Path) -> None:
    """The system's error holds the path, and that of an enrolled photo the person's id."""
    store = LocalStore(tmp_path / "data")
    blobs = LocalBlobStore(store)
    person, name = "eve-the-person", "eve-the-person/photo.jpg"
    blobs.put(DATASET, name, b"data")
    for path in (tmp_path / "data").rglob(f"{person}/*"):
        path.unlink()
        path.mkdir()  # reading a folder fails: EISDIR
    made = record()
    with pytest.raises(StoreUnavailable) as caught:
        blobs.get(DATASET, name)
    made.exc_info = (caught.type, caught.value, caught.tb)
    text = str(line(made))
    assert "IsADirectoryError" in text and "reading a blob" in text
    assert person not in text and str(tmp_path / "data") not in text
    store.close()


def test_a_record_knows_the_trace_that_it_is_of() -> None:
    provider = TracerProvider()
    telemetry.install(provider, telemetry.metrics.get_meter_provider())
    try:
        with telemetry.span("work"):
            ids = telemetry.trace_ids()
            found = line(record())
        assert ids == (found["trace_id"], found["span_id"])
        assert "trace_id" not in line(record())
    finally:
        telemetry.uninstall()
        provider.shutdown()


def test_extras_cannot_pretend_to_be_the_record() -> None:
    assert line(record(level="fatal", time="never"))["level"] == "info"
