"""Runs a gateway that sends nothing, for a while, and writes what it sees."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from edge_uploader.annotate import Annotator
from edge_uploader.camera import CameraSpec, Observer
from edge_uploader.gateway import GatewayReport, build_gateway, load_edge_detector
from edge_uploader.live_picture import Observers
from edge_uploader.preview import Look, PreviewObserver
from edge_uploader.settings import EdgeSettings
from functions.gates import recognition_gate
from local.nowhere import Nowhere
from shared.settings import Settings
from shared.vision.quality import assess

_SMALLEST_PX: Final = 16
_OVERTIME_S: Final = 20.0


def preview(
    settings: EdgeSettings,
    specs: Sequence[CameraSpec],
    own: Mapping[str, EdgeSettings],
    folder: Path,
    *,
    seconds: float,
) -> tuple[list[Look], GatewayReport]:
    """Looks at each camera for so many seconds of its own time, and writes pictures, video and crops to the folder.

    Returns:
        What each camera showed, in their order, and the gateway's report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stop, done = threading.Event(), _AllDone(spec.name for spec in specs)
    observers: list[PreviewObserver] = []

    def observe(spec: CameraSpec) -> Observer:
        def on_frame(position_s: float) -> None:
            if position_s >= seconds and done.with_(spec.name):
                stop.set()

        mine = own.get(spec.name, settings)
        observers.append(_observer(spec, mine, folder, on_frame))
        return Observers([observers[-1], Annotator(folder, spec.name, fps=mine.edge_fps or 25.0)])

    with tempfile.TemporaryDirectory(prefix="facerelay-preview-") as spool:
        gateway = build_gateway(
            settings.model_copy(update={"edge_spool_dir": Path(spool), "edge_drain_s": 1.0}),
            specs,
            Nowhere(),
            observe=observe,
            own_settings=own,
        )
        limit = threading.Timer(seconds + _OVERTIME_S, stop.set)
        limit.daemon = True
        limit.start()
        try:
            report = gateway.run(stop)
        finally:
            limit.cancel()
    return [observer.look for observer in observers], report


class _AllDone:
    """Which cameras have been looked at for long enough."""

    def __init__(self, names: Iterable[str]) -> None:
        self._left, self._guard = set(names), threading.Lock()

    def with_(self, name: str) -> bool:
        """Takes one off; True when none is left."""
        with self._guard:
            self._left.discard(name)
            return not self._left


def _observer(
    spec: CameraSpec, settings: EdgeSettings, folder: Path, on_frame: Callable[[float], None]
) -> PreviewObserver:
    gate = recognition_gate(Settings())
    return PreviewObserver(
        spec.name,
        folder,
        load_edge_detector(settings.model_copy(update={"edge_min_face_px": _SMALLEST_PX})),
        assess=assess,
        reason=lambda quality: _cause(gate.reason(quality)),
        min_face_px=settings.edge_min_face_px,
        confidence=settings.edge_high_confidence,
        on_frame=on_frame,
    )


def _cause(reason: str | None) -> str | None:
    """The recogniser asks its own detector how certain it is; the gateway's has other numbers."""
    return None if reason == "low_confidence" else reason
