"""What the system tells of itself while it works: a catalogue of metrics, and spans of one trace for each crop.

Knows the OpenTelemetry API and nothing of its SDK: until the composition root installs providers, every call here ends
in a no-op. No person, image or embedding is ever in a label or an attribute, and every label has a bounded number of
values. `docs/monitoring.md` describes each metric; a test compares the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from opentelemetry import context, metrics, trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors import FacerelayError

SCOPE: Final = "facerelay"
TRACEPARENT: Final = "traceparent"
"""Key of a candidate's metadata: W3C Trace Context of the span in which the crop was taken."""

MAX_PLACES: Final = 2_000
"""So many cameras have labels of their own in one process; what comes after them is counted as `other`."""

Labels = Mapping[str, str]

PRODUCER: Final = SpanKind.PRODUCER
CONSUMER: Final = SpanKind.CONSUMER

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_WORK_S: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
_DELAY_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1_800.0, 7_200.0, 86_400.0)
_TRAIN_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0)

_tracer: trace.Tracer
_meter: metrics.Meter
_instruments: dict[str, Any] = {}


class Metric:
    """One row of the catalogue.

    Args:
        name: as OpenTelemetry writes it, with dots.
        unit: UCUM: `s`, `By`, `1`, or a thing in braces.
        labels: the keys that every recording has.
    """

    kind: ClassVar[str]

    def __init__(self, name: str, unit: str, description: str, *labels: str, buckets: tuple[float, ...] = ()) -> None:
        self.name, self.unit, self.description = name, unit, description
        self.labels, self.buckets = labels, buckets
        CATALOGUE.append(self)


CATALOGUE: Final[list[Metric]] = []


class Counter(Metric):
    """Only grows."""

    kind = "counter"

    def add(self, labels: Labels, amount: int = 1) -> None:
        _instruments[self.name].add(amount, labels)


class Histogram(Metric):
    """How values are spread."""

    kind = "histogram"

    def record(self, value: float, labels: Labels) -> None:
        _instruments[self.name].record(value, labels)


class Gauge(Metric):
    """How something stands: set whenever it is known anew."""

    kind = "gauge"

    def set(self, value: float, labels: Labels) -> None:
        _instruments[self.name].set(value, labels)


class Watched(Metric):
    """A gauge that is read when somebody looks, since reading it costs something."""

    kind = "gauge"

    def watch(self, read: Callable[[], Iterable[tuple[float, Labels]]]) -> None:
        """Calls `read` whenever metrics are collected. Call it once, after providers are installed."""

        def observe(_: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
            return [metrics.Observation(value, labels) for value, labels in read()]

        _meter.create_observable_gauge(self.name, [observe], self.unit, self.description)


CANDIDATES = Counter("facerelay.candidates", "{candidate}", "Crops worked on to an outcome.", "site", "camera")
VERIFIED = Counter("facerelay.verified", "{candidate}", "Crops with a face that could be recognised.", "site", "camera")
REJECTED = Counter(
    "facerelay.rejected", "{candidate}", "Crops with no face, or one not fit for it.", "site", "camera", "reason"
)
FAILED = Counter("facerelay.failed", "{candidate}", "Crops that no repetition could help.", "site", "camera", "reason")
REPEATED = Counter("facerelay.repeated", "{candidate}", "Deliveries of crops that had an outcome already.")
IDENTIFIED = Counter(
    "facerelay.identified", "{face}", "Stored detections: of somebody enrolled, or unknown.",
    "site", "camera", "identity",
)  # fmt: skip
STAGE_DURATION = Histogram(
    "facerelay.stage.duration", "s", "Time in one step of recognition.", "stage", buckets=_WORK_S
)
CANDIDATE_DELAY = Histogram(
    "facerelay.candidate.delay", "s", "From the camera to the stored outcome.", "site", "camera", buckets=_DELAY_S
)
MODEL_AGE = Gauge("facerelay.model.age", "s", "Since the live model's fit read the gallery.")
MODEL_BEHIND = Gauge("facerelay.model.behind", "1", "1 while the gallery is not the one that the live model knows.")
TRAIN_DURATION = Histogram("facerelay.train.duration", "s", "Training jobs.", "kind", "status", buckets=_TRAIN_S)
QUEUE_DEPTH = Watched("facerelay.queue.depth", "{message}", "Messages that wait, or are worked on.", "queue")

EDGE_FRAMES = Counter("facerelay.edge.frames", "{frame}", "Frames worked on.", "site", "camera")
EDGE_FACES = Counter("facerelay.edge.faces", "{face}", "Faces seen in them.", "site", "camera")
EDGE_CROPS = Counter("facerelay.edge.crops", "{crop}", "Crops put into the spool.", "site", "camera")
EDGE_LOST = Counter("facerelay.edge.lost", "{crop}", "Crops that found no room before the end.", "site", "camera")
EDGE_UP = Gauge("facerelay.edge.camera.up", "1", "1 while the camera gives frames.", "site", "camera")
EDGE_PICTURE_OK = Gauge(
    "facerelay.edge.picture.ok", "1", "1 while the picture is as it should be, 0 while it is not.", "site", "camera"
)
EDGE_EVENTS = Counter(
    "facerelay.edge.events", "{event}", "Troubles of streams, pictures and the clock.", "site", "camera", "kind"
)
EDGE_UPLOADED = Counter("facerelay.edge.uploaded", "{crop}", "Crops that the store has acknowledged.")
EDGE_UPLOADED_BYTES = Counter("facerelay.edge.uploaded.size", "By", "Their images.")
EDGE_RETRIES = Counter("facerelay.edge.retries", "{attempt}", "Attempts to send that failed and were repeated.")
EDGE_REFUSED = Counter("facerelay.edge.refused", "{crop}", "Crops that the store refused, also those taken back.")
EDGE_SPOOL_DEPTH = Gauge("facerelay.edge.spool.depth", "{crop}", "Crops that wait for the store.", "site")
EDGE_SPOOL_SIZE = Gauge("facerelay.edge.spool.size", "By", "Their size on the disk.", "site")
EDGE_STUCK = Gauge("facerelay.edge.camera.stuck", "1", "1 while the camera makes no progress.", "site", "camera")
EDGE_PICTURE = Gauge(
    "facerelay.edge.picture", "1", "1 for what the picture is now, 0 for what it was.", "site", "camera", "state"
)
EDGE_GRABBED = Counter("facerelay.edge.grabbed", "{frame}", "Frames that the source delivered.", "site", "camera")
EDGE_SKIPPED = Counter("facerelay.edge.skipped", "{frame}", "Frames passed over on purpose.", "site", "camera")
EDGE_DROPPED = Counter("facerelay.edge.dropped", "{frame}", "Frames lost to a busy detector.", "site", "camera")
EDGE_RECONNECTS = Counter("facerelay.edge.reconnects", "{attempt}", "Streams opened again.", "site", "camera")
EDGE_TRACKS = Counter("facerelay.edge.tracks", "{track}", "Faces that were followed.", "site", "camera")
EDGE_DETECTOR_RUNS = Counter("facerelay.edge.detector.runs", "{run}", "Runs of the detector.", "site", "camera")
EDGE_UNLOOKED = Counter(
    "facerelay.edge.unlooked", "{frame}", "Frames that the detector did not look at.", "site", "camera", "reason"
)
EDGE_REPEATS = Counter("facerelay.edge.repeats", "{track}", "Tracks of what was sent already.", "site", "camera")
EDGE_USABLE = Counter("facerelay.edge.usable", "{face}", "Faces good enough to be recognised.", "site", "camera")
EDGE_UNUSABLE = Counter("facerelay.edge.unusable", "{face}", "Faces that are not, by cause.", "site", "camera", "cause")
EDGE_SPOOL_LIMIT = Gauge("facerelay.edge.spool.limit", "By", "Bound of the spool.", "site")
EDGE_SPOOL_OLDEST = Gauge("facerelay.edge.spool.oldest", "s", "Age of the crop that has waited longest.", "site")
EDGE_SPOOL_DROPPED = Counter("facerelay.edge.spool.dropped", "{crop}", "Crops given up at the spool's bound.", "site")
EDGE_SPOOL_TORN = Counter("facerelay.edge.spool.torn", "{file}", "Damaged files that were set aside.", "site")
EDGE_SPOOL_FULL = Counter("facerelay.edge.spool.full", "{time}", "Times that the spool had no room.", "site")
EDGE_BUDGET = Gauge("facerelay.edge.budget", "1", "What the budget's report says, by item.", "site", "item")


def install(tracer_provider: trace.TracerProvider, meter_provider: metrics.MeterProvider) -> None:
    """Sends spans and metrics to these providers from now on."""
    global _tracer, _meter
    _tracer = tracer_provider.get_tracer(SCOPE)
    _meter = meter = meter_provider.get_meter(SCOPE)
    makers: dict[type[Metric], Callable[[Metric], Any]] = {
        Counter: lambda m: meter.create_counter(m.name, m.unit, m.description),
        Gauge: lambda m: meter.create_gauge(m.name, m.unit, m.description),
        Histogram: lambda m: meter.create_histogram(
            m.name, m.unit, m.description, explicit_bucket_boundaries_advisory=m.buckets
        ),
    }
    for metric in CATALOGUE:
        if make := makers.get(type(metric)):
            _instruments[metric.name] = make(metric)


def uninstall() -> None:
    """Back to the API's own providers: no-ops, unless somebody has set others for the whole process."""
    install(trace.get_tracer_provider(), metrics.get_meter_provider())


uninstall()

_places: dict[tuple[str, str], Labels] = {}


def place(site: str, camera: str) -> Labels:
    """Labels of a camera. Whoever invents cameras cannot fill the memory: see `MAX_PLACES`."""
    key = (site, camera)
    found = _places.get(key)
    if found is None:
        if len(_places) >= MAX_PLACES:
            return {"site": "other", "camera": "other"}
        found = _places[key] = {"site": site, "camera": camera}
    return found


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    carrier: Mapping[str, str] | None = None,
    attributes: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """A span around the body.

    An error becomes the span's status as its code alone: messages and tracebacks may name people.

    Args:
        carrier: metadata that may hold a `traceparent`, in any letter case: the span continues that trace.
    """
    parent = None
    if carrier and (value := _traceparent_in(carrier)):
        parent = _PROPAGATOR.extract({TRACEPARENT: value}, context.get_current())
    with _tracer.start_as_current_span(
        name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except Exception as error:
            code = error.code if isinstance(error, FacerelayError) else type(error).__name__
            current.set_status(Status(StatusCode.ERROR, code))
            raise


def _traceparent_in(carrier: Mapping[str, str]) -> str | None:
    return next((value for key, value in carrier.items() if key.lower() == TRACEPARENT), None)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """A step of recognition: a span, and a value of `facerelay.stage.duration`. Errors are not timed."""
    began = time.perf_counter()
    with span(name):
        yield
    STAGE_DURATION.record(time.perf_counter() - began, {"stage": name})


def traceparent() -> dict[str, str]:
    """Metadata that lets another process continue the trace of here and now; empty when there is none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return {TRACEPARENT: carrier[TRACEPARENT]} if TRACEPARENT in carrier else {}


def trace_ids() -> tuple[str, str] | None:
    """Trace and span id of here and now, in hex, for log records; None outside of any trace."""
    found = trace.get_current_span().get_span_context()
    return (trace.format_trace_id(found.trace_id), trace.format_span_id(found.span_id)) if found.is_valid else None
