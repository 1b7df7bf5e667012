"""No log record of a full run names anybody, or holds an image or an embedding."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from functions.services import Services
from local.logs import JsonFormatter
from shared.adapters.local import LocalStore
from shared.bootstrap import Runtime
from shared.errors import FacerelayError
from shared.messages import TRAIN_QUEUE, TrainRequest
from shared.settings import Settings
from shared.vision.assets import load_registry
from shared.vision.detectors import Pack
from tests.support import (
    BLUE,
    GREEN,
    ONE_COLOUR,
    RED,
    ColourEmbedder,
    PatchDetector,
    candidate,
    colour_pack,
    picture,
    png,
    portrait,
    stores_over,
)

PEOPLE = {"ann_smith": RED, "bob_jones": GREEN}


class Listener(logging.Handler):
    """Keeps every record of our own loggers, at any level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def heard() -> Iterator[list[logging.LogRecord]]:
    listener, loggers = (
        Listener(),
        [logging.getLogger(name) for name in ("functions", "shared", "edge_uploader", "local")],
    )
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(listener)
        logger.setLevel(logging.DEBUG)
    yield listener.records
    for logger, level in zip(loggers, before, strict=True):
        logger.removeHandler(listener)
        logger.setLevel(level)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    store = LocalStore(tmp_path)
    table = load_registry().embedder["facenet"].model_copy(update={"embedder_id": "colour.1", "dimension": 8})
    pack = Pack("colours", PatchDetector(), ColourEmbedder(), table)
    settings = Settings(data_dir=tmp_path, model_poll_s=3600, **ONE_COLOUR)
    other = colour_pack(ColourEmbedder("other.1"), name="other")
    made = Services(Runtime(settings, stores=stores_over(store), pack=[pack, other]))
    yield made
    store.close()


def train(services: Services, kind: str) -> None:
    services.train_requests().request(kind)  # type: ignore[arg-type]
    work_off(services)


def work_off(services: Services) -> None:
    queue = services.runtime.stores.queue
    while messages := queue.receive(TRAIN_QUEUE):
        message = messages[0]
        assert services.train().run(TrainRequest.model_validate_json(message.body)).status == "succeeded"
        queue.delete(message)


def deliver(services: Services, data: bytes, **changes: object) -> str:
    made = candidate(data, **changes)
    return services.detections().store_candidate(made.blob_name, data, made.to_metadata()).status


def refused(call, *args: object) -> None:
    with pytest.raises(FacerelayError):
        call(*args)


def full_run(services: Services) -> None:
    """Enrol, train, recognise, fail at each, and remove somebody."""
    enroll = services.enroll()
    for person_id, colour in PEOPLE.items():
        enroll.add_person(person_id)
        for shift in (0, 10, 20):
            enroll.add_image(person_id, portrait(colour, shift=shift))
    refused(enroll.add_person, "ann_smith")
    refused(enroll.add_image, "ann_smith", png(picture()))
    refused(enroll.add_image, "ann_smith", b"no picture")
    refused(enroll.add_image, "nobody_there", portrait(RED))
    for kind in ("fit", "embed_and_fit"):
        train(services, kind)
    assert services.runtime.live_model.refresh().person_ids == tuple(sorted(PEOPLE))
    assert deliver(services, portrait(RED)) == deliver(services, portrait(BLUE), track="b2") == "detected"
    assert deliver(services, png(picture()), track="c3") == "rejected"
    assert deliver(services, b"broken", track="d4") == "failed"
    image = next(iter(services.runtime.stores.blobs.list("dataset", "bob_jones/")))
    services.runtime.stores.blobs.put("dataset", image.name, b"damaged")
    train(services, "embed")
    services.migration_requests().start("other", switch=True)
    work_off(services)
    services.enroll().remove_person("ann_smith")
    for wish in ("rollback", "finish"):
        services.migration_requests().ask(wish)  # type: ignore[arg-type]
        work_off(services)
    assert services.migration_requests().current().state == "finished"


def test_no_record_names_anybody_or_holds_a_picture(services: Services, heard: list[logging.LogRecord]) -> None:
    full_run(services)
    actions = {getattr(record, "action", None) for record in heard}
    assert actions >= {
        "migration.switched",
        "migration.rolled_back",
        "candidate.detected",
        "candidate.failed",
        "model.publish",
        "model.live",
        "train.unreadable",
    }
    for record in heard:
        text = JsonFormatter().format(record) + str(vars(record))
        assert not [name for name in (*PEOPLE, "nobody_there") if name in text], record.getMessage()
        values = [*vars(record).values(), *(record.args if isinstance(record.args, tuple) else ())]
        held = [value for value in values if isinstance(value, bytes | bytearray | memoryview | np.ndarray)]
        assert held == [], record.getMessage()
