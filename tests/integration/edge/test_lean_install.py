"""The gateway with nothing but edge_uploader/requirements.txt: every other distribution is hidden from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.unit.edge.fakes import picture, write_video

ROOT = Path(__file__).parents[3]

HIDER = """
import importlib.abc, json, sys

class Hider(importlib.abc.MetaPathFinder):
    hidden = frozenset(json.loads(HIDDEN))

    def find_spec(self, fullname, path=None, target=None):
        parts = fullname.split(".")
        if any(".".join(parts[:depth]) in self.hidden for depth in (1, 2, 3)):
            raise ModuleNotFoundError(f"hidden: {fullname}", name=fullname)
        return None

sys.meta_path.insert(0, Hider())
"""

EVERYTHING = """
import importlib, pkgutil
import edge_uploader, local, local.cli
for package in (edge_uploader, local.cli):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
for module in pkgutil.walk_packages(local.__path__, "local."):
    if module.name.startswith("local.edge"):
        importlib.import_module(module.name)
import shared.adapters.telemetry, shared.adapters.azure.uploads, shared.vision.detectors, shared.vision.quality
from shared.bootstrap import open_blob_store, open_upload_store
from shared.settings import StoreSettings
open_blob_store(StoreSettings(backend="azure", storage_blob_url="https://example.blob.core.windows.net",
    storage_queue_url="https://example.queue.core.windows.net"))
open_upload_store(StoreSettings(), "https://example.org", "frl_x")
"""


def required() -> set[str]:
    """The distributions of the list, and those that they require."""
    lines = (ROOT / "edge_uploader" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    todo = [Requirement(line.split("#")[0].strip()) for line in lines if line and not line.startswith("#")]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while todo:
        wanted = todo.pop()
        key = canonicalize_name(wanted.name), tuple(wanted.extras)
        if key in seen:
            continue
        seen.add(key)
        for needed in map(Requirement, metadata.requires(wanted.name) or ()):
            extras = ["", *wanted.extras]
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
    return {name for name, _ in seen} | {"pip", "setuptools", "facerelay"}


@pytest.fixture(scope="module")
def hidden() -> str:
    """JSON list of the modules, at most three names deep, that none of the required distributions has."""
    names, theirs, ours = required(), set(), set()
    for found in metadata.distributions():
        prefixes = ours if canonicalize_name(found.metadata["Name"]) in names else theirs
        for line in (found.read_text("RECORD") or "").splitlines():
            path = line.split(",")[0]
            if path.endswith((".py", ".so")):
                parts = [part.split(".")[0] for part in path.split("/")]
                prefixes.update(".".join(parts[:depth]) for depth in range(1, min(3, len(parts)) + 1))
    return json.dumps(sorted(theirs - ours))


@pytest.fixture
def lean(hidden: str, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    settings = {"FACERELAY_DATA_DIR": str(tmp_path / "data"), "FACERELAY_EDGE_SPOOL_DIR": str(tmp_path / "spool")}

    def run(program: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", f"HIDDEN = {hidden!r}\n{HIDER}\n{program}"],
            cwd=ROOT,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run


def test_what_is_not_on_the_list_is_hidden(lean, hidden: str) -> None:
    listed = set(json.loads(hidden))
    for name in ("sklearn", "faiss", "matplotlib", "azure.cosmos", "azure.functions", "azure.monitor.opentelemetry"):
        assert any(".".join(name.split(".")[:depth]) in listed for depth in (1, 2, 3)), name
    assert not listed & {
        "azure",
        "azure.storage",
        "azure.identity",
        "opentelemetry",
        "opentelemetry.sdk",
        "numpy",
        "cv2",
    }
    assert "hidden: azure.functions" in lean("import azure.functions").stderr


def test_every_module_of_the_gateway_can_be_imported(lean) -> None:
    done = lean(EVERYTHING)
    assert done.returncode == 0, done.stderr[-2_000:]


def test_it_runs(lean, tmp_path: Path, artefact) -> None:
    artefact("yunet")
    clip = tmp_path / "clip.avi"
    write_video(str(clip), [picture() for _ in range(10)])
    arguments = [
        ["edge", "run", "--camera", f"a={clip}", "--json", "--metrics-port", "0"],
        ["bandwidth", str(clip), "--json"],
        ["extract", str(clip), str(tmp_path / "faces"), "--json"],
        ["models", "fetch", "--edge"],
    ]
    done = lean(f"from local.cli import app\nfor each in {arguments!r}: app(each, standalone_mode=False)")
    assert done.returncode == 0, done.stderr[-2_000:]
    assert '"frames": 10' in done.stdout and '"density": "very low"' in done.stdout
