"""One trace, from the crop that a gateway took to the detection that was stored of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from shared import telemetry
from shared.bootstrap import Stores
from shared.domain import CANDIDATES
from shared.errors import NotFound
from tests.support import GREEN, RED, candidate, colour_vector, local_stores, matcher, picture, portrait
from tests.unit.telemetry.conftest import Collected
from tests.unit.telemetry.site import recogniser, run_gateway, work_off

MODEL = matcher({"ann_smith": colour_vector(RED)})


@pytest.fixture
def stores(tmp_path: Path):
    with local_stores(tmp_path / "data") as opened:
        yield opened


def test_one_trace_leads_from_the_camera_to_the_stored_detection(
    collected: Collected, stores: Stores, tmp_path: Path
) -> None:
    run_gateway(tmp_path / "spool", stores.blobs, [picture(((100, 80, 160, 150), RED), size=(320, 240))])
    (outcome,) = work_off(recogniser(stores, MODEL), stores.blobs)
    assert outcome.status == "detected"
    crop, upload, work = (collected.span(name) for name in ("edge.crop", "edge.upload", "recognize.candidate"))
    stages = [span for span in collected.spans if span.name in ("decode", "detect", "embed", "identify", "store")]
    assert [span.name for span in stages] == ["decode", "detect", "embed", "identify", "store", "store"]
    assert {span.context.trace_id for span in collected.spans} == {crop.context.trace_id}
    assert crop.parent is None
    assert {upload.parent.span_id, work.parent.span_id} == {crop.context.span_id}
    assert {span.parent.span_id for span in stages} == {work.context.span_id}
    assert (crop.kind, work.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)


def test_every_crop_has_a_trace_of_its_own(collected: Collected, stores: Stores, tmp_path: Path) -> None:
    run_gateway(
        tmp_path / "spool", stores.blobs, [picture(((100, 80, 160, 150), c), size=(320, 240)) for c in (RED, GREEN)]
    )
    assert len({span.context.trace_id for span in collected.spans if span.name == "edge.crop"}) == 2


def test_the_trace_is_found_in_any_letter_case(collected: Collected, stores: Stores) -> None:
    """Blob metadata come back as HTTP headers, whose case is nobody's promise."""
    data = portrait(RED)
    made = candidate(data)
    metadata = {**made.to_metadata(), "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    recogniser(stores, MODEL).store_candidate(made.blob_name, data, metadata)
    work = collected.span("recognize.candidate")
    assert f"{work.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{work.parent.span_id:016x}" == "b7ad6b7169203331"


@pytest.mark.parametrize("value", ["", "x", "00-0-0-01", "ff-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-" + "é" * 55])
def test_a_broken_traceparent_begins_a_new_trace(collected: Collected, stores: Stores, value: str) -> None:
    data = portrait(RED)
    made = candidate(data)
    outcome = recogniser(stores, MODEL).store_candidate(
        made.blob_name, data, {**made.to_metadata(), "traceparent": value}
    )
    assert outcome.status == "detected"
    assert collected.span("recognize.candidate").parent is None


def test_without_providers_nothing_is_added_to_a_crop(stores: Stores, tmp_path: Path) -> None:
    run_gateway(tmp_path / "spool", stores.blobs, [picture(((100, 80, 160, 150), RED), size=(320, 240))])
    (blob,) = stores.blobs.list(CANDIDATES)
    assert telemetry.TRACEPARENT not in blob.metadata
    assert telemetry.trace_ids() is None


def test_an_error_leaves_its_code_and_no_word_more(collected: Collected) -> None:
    with pytest.raises(NotFound), telemetry.span("work"):
        raise NotFound("ann_smith is not enrolled")
    with pytest.raises(KeyError), telemetry.span("other"):
        raise KeyError("ann_smith")
    spans = (collected.span("work"), collected.span("other"))
    assert [(span.status.status_code, span.status.description) for span in spans] == [
        (StatusCode.ERROR, "not_found"),
        (StatusCode.ERROR, "KeyError"),
    ]
    assert not any("ann_smith" in span.to_json() for span in spans)
