"""The whole way over real servers: gateway → blob → queue → recognised → Cosmos DB → asked over HTTP."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from edge_uploader.camera import CameraSpec
from edge_uploader.gateway import GatewayReport, build_gateway
from edge_uploader.settings import EdgeSettings
from shared.adapters.azure.access import AzureAccess
from shared.bootstrap import open_blob_store
from shared.domain import UNKNOWN
from tests.e2e.service import Service, serving, within
from tests.servers import COSMOS_KEY, Cosmos, Storage, wipe_storage

QUEUE = "azure-webjobs-blobtrigger-recognize-candidate"


def run_gateway(storage: Storage, folder: Path, pictures: dict[str, bytes]) -> GatewayReport:
    """One camera whose frames are these pictures."""
    frames = folder / "frames"
    frames.mkdir()
    for name, picture in pictures.items():
        (frames / f"{name}.jpg").write_bytes(picture)
    settings = EdgeSettings(
        backend="azure",
        storage_connection_string=SecretStr(storage.connection_string),
        edge_site="north",
        edge_spool_dir=folder / "spool",
    )
    spec = CameraSpec("gate 1", str(frames), "Küche")
    return build_gateway(settings, [spec], open_blob_store(settings)).run(threading.Event())


def sightings(service: Service) -> list[dict[str, str]]:
    found: list[dict[str, str]] = service.call("GET", "/api/v1/detections")["detections"]
    return found


def test_from_a_camera_to_an_answer(
    storage_server: Storage, cosmos_db_server: Cosmos, tmp_path: Path, jpeg: Callable[[str], bytes]
) -> None:
    wipe_storage(storage_server)
    settings = {
        "FACERELAY_STORAGE_CONNECTION_STRING": storage_server.connection_string,
        "FACERELAY_COSMOS_URL": cosmos_db_server.url,
        "FACERELAY_COSMOS_KEY": COSMOS_KEY,
        "FACERELAY_COSMOS_DATABASE": f"e2e-{uuid.uuid4().hex}",
        "FACERELAY_MODEL_POLL_S": "1",
    }
    with serving(tmp_path / "data", tmp_path / "serve.log", "--backend", "azure", **settings) as service:
        service.enrol("Barack Obama", jpeg("demo_obama"), jpeg("demo_obama2"))
        service.enrol("Joe Biden", jpeg("demo_biden"))
        assert service.call("POST", "/model/optimized-train")["status"] == "succeeded"
        assert within(15, lambda: service.label(jpeg("demo_obama2")) == "barack_obama")

        pictures = {name: jpeg(name) for name in ("demo_obama3", "demo_astronaut")}
        report = run_gateway(storage_server, tmp_path, pictures)
        assert (report.failed, report.waiting, report.uploads.uploaded) == ([], 0, 2)

        assert within(30, lambda: len(sightings(service)) == 2), service.log.read_text()
        assert sorted(sighting["person_id"] for sighting in sightings(service)) == ["barack_obama", UNKNOWN]
        (seen,) = service.call("GET", "/database/Barack Obama/last-known-location")["last_known_location"]
        assert (seen["location"], seen["detected_by_camera_id"]) == ("Küche", "gate 1")
        queue = AzureAccess(connection_string=storage_server.connection_string).work_queue()
        assert within(10, lambda: queue.length(QUEUE) == 0)
        assert [name for name in queue.names() if name.endswith("-poison") and queue.length(name)] == []
        queue.close()
        assert service.stop() == 0
    said = service.log.read_text()
    assert "Traceback" not in said, said
    assert not (tmp_path / "data" / "blobs").exists(), "nothing of the store is on this machine"
