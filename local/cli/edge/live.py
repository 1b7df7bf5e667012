"""The live page of the gateway that this command runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_uploader.annotate import Annotator
from edge_uploader.camera import CameraSpec, Observer
from edge_uploader.gateway import Gateway, GatewayReport
from edge_uploader.live_picture import LivePicture, Observers
from edge_uploader.settings import EdgeSettings
from edge_uploader.status import RunningGateway, StatusBook
from shared.vision.decode import encode_jpeg


class LivePage:
    """Looks on at every camera, and serves what there is to see.

    Args:
        annotate: folder for annotated pictures besides, or None.
    """

    def __init__(self, settings: EdgeSettings, annotate: Path | None = None) -> None:
        self._settings, self._annotate = settings, annotate
        self._pictures: list[LivePicture] = []
        self._book: StatusBook | None = None

    @property
    def wanted(self) -> bool:
        return self._settings.edge_page_port > 0

    def observe(self, spec: CameraSpec) -> Observer:
        """An observer for one camera; asked for in the order of the cameras."""
        picture = LivePicture(encode_jpeg)
        self._pictures.append(picture)
        if self._annotate is None:
            return picture
        return Observers([picture, Annotator(self._annotate, spec.name, fps=self._settings.edge_fps or 25.0)])

    def update(self, report: GatewayReport) -> None:
        if self._book is not None:
            self._book.update(report)

    @contextmanager
    def serving(self, gateway: Gateway, metrics: Callable[[], bytes] | None) -> Iterator[str]:
        """Serves while the body runs; gives the address, or nothing when no page is wanted.

        Raises:
            ConfigurationError: the port is taken.
        """
        settings = self._settings
        if not self.wanted:
            RunningGateway.remove(settings.edge_spool_dir)
            yield ""
            return
        from local.edge_page.access import Access
        from local.edge_page.app import PageParts, make_app
        from local.edge_page.server import serving_page

        self._book = StatusBook(gateway.health)
        self._book.update(gateway.report())
        parts = PageParts(settings.edge_site, self._book, self._pictures, metrics)
        app = make_app(parts, Access(settings.edge_page_token.get_secret_value()))
        chosen = "edge_page_port" in settings.model_fields_set
        with serving_page(app, settings.edge_page_address, settings.edge_page_port, any_port=not chosen) as url:
            RunningGateway(os.getpid(), url).write(settings.edge_spool_dir)
            try:
                yield url
            finally:
                RunningGateway.remove(settings.edge_spool_dir)
