"""Fetching model files: a registry on loopback that breaks in the ways that networks and disks do."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rich.progress import Progress
from typer.testing import CliRunner

from local.cli.models import app
from local.models import Fetcher, parse_source_order
from shared.errors import (
    ConfigurationError,
    FacerelayError,
    IntegrityError,
    ModelUnavailable,
    StoreFull,
    StoreUnavailable,
)
from shared.vision.assets import ModelCache, Registry

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WHEEL, SDIST = "thing-1.0-py3-none-any.whl", "thing-1.0.tar.gz"


def wheel(content=CONTENT, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("thing/model.onnx", content)
        archive.writestr("thing/__init__.py", "raise SystemExit('nothing of a package is ever imported')")
    return buffer.getvalue()


def sdist(content=CONTENT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("thing-1.0/model.onnx")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Site(ThreadingHTTPServer):
    """A package registry and a publisher in one. `cut_at`: the connection breaks after so many bytes, once each."""

    def __init__(self):
        self.files = {}
        self.requests = []
        self.cut_at = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ranges(self):
        return [value for path, value in self.requests if path.startswith("/files/")]


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        if self.path == "/simple/thing/":
            links = "".join(
                f'<a href="/files/{name}#sha256={hashlib.sha256(data).hexdigest()}">{name}</a>'
                for name, data in self.server.files.items()
            )
            return self.answer(200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")
        data = self.server.files.get(self.path.rpartition("/")[2])
        if data is None:
            return self.answer(404, b"", "text/plain")
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked is None:
            return self.answer(200, data, "application/octet-stream")
        start = int(asked[1])
        if start >= len(data):
            return self.answer(416, b"", "text/plain")
        return self.answer(206, data[start:], "application/octet-stream")

    def answer(self, status, body, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path.startswith("/files/") and self.server.cut_at:
            self.wfile.write(body[: self.server.cut_at.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(body)


@pytest.fixture
def site(monkeypatch):
    server = Site()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def cache_of(tmp_path, *sources, **fields):
    table = {"file": "model.onnx", "sha256": SHA256, "bytes": len(CONTENT), "sources": list(sources)} | fields
    return ModelCache(tmp_path / "cache", Registry.model_validate({"artefact": {"model": table}}))


def package(filename=WHEEL, member="thing/model.onnx"):
    return {"kind": "package", "name": "thing", "version": "1.0", "filename": filename, "member": member}


def fetch(cache, **options):
    with Progress(disable=True) as progress, Fetcher(cache, progress=progress, **options) as fetcher:
        return fetcher.fetch("model")


def left_in(cache):
    return sorted(path.name for path in cache.directory.iterdir() if path.name != ".lock")


@pytest.mark.parametrize(
    ("filename", "member", "archive"),
    [(WHEEL, "thing/model.onnx", wheel), (SDIST, "thing-1.0/model.onnx", sdist)],
)
def test_one_member_is_taken_from_the_archive_and_nothing_else_stays(site, tmp_path, filename, member, archive):
    site.files[filename] = archive()
    cache = cache_of(tmp_path, package(filename, member))
    assert fetch(cache).read_bytes() == CONTENT
    assert left_in(cache) == ["model.onnx"]


def test_what_is_there_is_not_asked_for_again(site, tmp_path):
    site.files[WHEEL] = wheel()
    cache = cache_of(tmp_path, package())
    fetch(cache)
    asked = len(site.requests)
    fetch(cache)
    assert len(site.requests) == asked


def test_a_cut_connection_is_taken_up_where_it_broke(site, tmp_path):
    site.files[WHEEL] = wheel()
    site.cut_at = [300_000, 200_000]
    assert fetch(cache_of(tmp_path, package())).read_bytes() == CONTENT
    first, second, third = site.ranges()
    assert first is None
    assert 0 < int(second.removeprefix("bytes=").rstrip("-")) <= 300_000
    assert int(third.removeprefix("bytes=").rstrip("-")) > int(second.removeprefix("bytes=").rstrip("-"))


def test_a_connection_that_always_breaks_leaves_a_part_for_the_next_run(site, tmp_path):
    site.files[WHEEL] = wheel()
    site.cut_at = [262_144, 0, 0, 0]
    cache = cache_of(tmp_path, package())
    with pytest.raises(StoreUnavailable, match="goes on from there"):
        fetch(cache)
    assert left_in(cache) == [WHEEL + ".part"]
    assert fetch(cache).read_bytes() == CONTENT
    assert site.ranges()[-1] == "bytes=262144-"
    assert left_in(cache) == ["model.onnx"]


def test_a_part_of_something_else_is_thrown_away(site, tmp_path):
    site.files[WHEEL] = wheel()
    cache = cache_of(tmp_path, package())
    cache.directory.mkdir()
    (cache.directory / (WHEEL + ".part")).write_bytes(b"half of another file")
    with pytest.raises(IntegrityError, match="nothing is kept"):
        fetch(cache)
    assert left_in(cache) == []
    assert fetch(cache).read_bytes() == CONTENT


def test_a_member_with_another_hash_is_not_kept(site, tmp_path):
    site.files[WHEEL] = wheel(CONTENT[:-1] + b"!")
    cache = cache_of(tmp_path, package())
    with pytest.raises(IntegrityError, match="SHA-256 differs"):
        fetch(cache)
    assert left_in(cache) == []


def test_a_member_larger_than_stated_is_not_read_to_its_end(site, tmp_path):
    site.files[WHEEL] = wheel(b"\0" * 20_000_000)
    cache = cache_of(tmp_path, package())
    with pytest.raises(IntegrityError):
        fetch(cache)
    assert left_in(cache) == []


def test_the_next_source_serves_when_the_first_does_not(site, tmp_path):
    site.files |= {WHEEL: wheel(b"wrong"), "direct.onnx": CONTENT}
    url = {"kind": "url", "url": f"{site.url}/files/direct.onnx"}
    assert fetch(cache_of(tmp_path, package(), url)).read_bytes() == CONTENT


def test_the_order_of_the_sources_is_a_choice(site, tmp_path):
    site.files |= {WHEEL: wheel(), "direct.onnx": CONTENT}
    url = {"kind": "url", "url": f"{site.url}/files/direct.onnx"}
    fetch(cache_of(tmp_path, package(), url), order=("url", "package"))
    assert [path for path, _ in site.requests] == ["/files/direct.onnx"]


def test_a_registry_without_the_package_says_so(site, tmp_path):
    with pytest.raises(ModelUnavailable, match="no longer has"):
        fetch(cache_of(tmp_path, package()))


def test_without_a_network_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(StoreUnavailable, match="no connection.*--from DIR"):
        fetch(cache_of(tmp_path, package()))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(site, tmp_path, compressed):
    """The limit on a file's size stands for a full disk: the archive, or else its member, does not fit."""
    resource = pytest.importorskip("resource")
    site.files[WHEEL] = wheel(compression=zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED)
    cache = cache_of(tmp_path, package())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(StoreFull, match="FACERELAY_MODEL_CACHE"):
            fetch(cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left_in(cache) == ([] if compressed else [WHEEL + ".part"])
    assert fetch(cache).read_bytes() == CONTENT


@pytest.mark.parametrize("as_archive", [True, False])
def test_a_folder_serves_without_any_network(tmp_path, monkeypatch, as_archive):
    monkeypatch.setattr("requests.Session.request", lambda *args, **kwargs: pytest.fail("asked the network"))
    folder = tmp_path / "stick"
    folder.mkdir()
    name, content = (WHEEL, wheel()) if as_archive else ("renamed.bin", CONTENT)
    (folder / name).write_bytes(content)
    cache = cache_of(tmp_path, package())
    assert fetch(cache, offline=folder).read_bytes() == CONTENT
    assert sorted(path.name for path in folder.iterdir()) == [name]


def test_a_folder_that_lacks_it_or_is_not_there(tmp_path):
    folder = tmp_path / "stick"
    folder.mkdir()
    with pytest.raises(ModelUnavailable, match="neither model.onnx nor"):
        fetch(cache_of(tmp_path, package()), offline=folder)
    (folder / "model.onnx").write_bytes(b"half a file")
    with pytest.raises(IntegrityError):
        fetch(cache_of(tmp_path, package()), offline=folder)
    with pytest.raises(ConfigurationError, match="no such folder"):
        fetch(cache_of(tmp_path, package()), offline=tmp_path / "none")


def test_two_at_once_download_once(site, tmp_path):
    site.files[WHEEL] = wheel()
    cache = cache_of(tmp_path, package())
    failures = []

    def run():
        try:
            fetch(cache)
        except FacerelayError as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(site.ranges()) == 1


@pytest.mark.parametrize("setting", ["", "ftp", "package,,ftp"])
def test_an_unknown_kind_of_source_is_refused(setting):
    with pytest.raises(ConfigurationError):
        parse_source_order(setting)


def test_the_command_ends_1_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("FACERELAY_MODEL_SOURCES", "package")
    result = CliRunner().invoke(app, ["fetch", "--cache", str(tmp_path / "cache")])
    assert result.exit_code == 1
    told = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(told) == 1
    assert "facerelay: mtcnn_pnet_original: the package registry does not answer" in told[0]


def test_the_command_lists_and_verifies(tmp_path):
    listed = CliRunner().invoke(app, ["list", "--json", "--cache", str(tmp_path)])
    assert listed.exit_code == 0
    assert '"name": "facenet"' in listed.stdout
    verified = CliRunner().invoke(app, ["verify", "--cache", str(tmp_path)])
    assert verified.exit_code == 1
    assert "missing  facenet" in verified.stdout
    (tmp_path / "mtcnn-pnet.onnx").write_bytes(b"half")
    assert "wrong    mtcnn_pnet_original" in CliRunner().invoke(app, ["verify", "--cache", str(tmp_path)]).stdout


def test_the_command_refuses_an_unknown_pack(tmp_path):
    result = CliRunner().invoke(app, ["fetch", "--pack", "arcface", "--cache", str(tmp_path)])
    assert result.exit_code == 1
    assert "arcface" in result.stderr
