"""The live page's HTTP: who is let in, with which headers, and what is answered."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from edge_uploader.camera import CameraSpec
from edge_uploader.capture.sources import Frame
from edge_uploader.gateway import build_gateway
from edge_uploader.live_picture import LivePicture
from edge_uploader.progress import Health
from edge_uploader.settings import EdgeSettings
from edge_uploader.status import RunningGateway, StatusBook
from local.edge_page.access import Access, TooManyTries, same_origin
from local.edge_page.app import PageParts, make_app
from shared.domain import utc_now
from tests.unit.edge.fakes import ColourDetector, FaultyBlobStore, encode, picture

TOKEN = "a-token-of-the-page"


@pytest.fixture
def book(tmp_path: Path) -> StatusBook:
    """Of a gateway that has done a little."""
    settings = EdgeSettings(edge_spool_dir=tmp_path / "spool", edge_site="<b>hq", edge_drain_s=0.0)
    gateway = build_gateway(
        settings, [CameraSpec("door", "/nowhere.mp4")], FaultyBlobStore(), detector_factory=ColourDetector
    )
    book = StatusBook(lambda: Health())
    book.update(gateway.run(threading.Event()))
    return book


@pytest.fixture
def live() -> LivePicture:
    return LivePicture(encode)


def client(book: StatusBook, live: LivePicture, token: str = "", base: str = "http://127.0.0.1:8090") -> TestClient:
    parts = PageParts("<b>hq", book, [live], lambda: b"facerelay_x 1\n")
    return TestClient(make_app(parts, Access(token)), base_url=base, follow_redirects=False)


def test_everything_is_answered_on_this_machine(book: StatusBook, live: LivePicture) -> None:
    page = client(book, live)
    assert "&lt;b&gt;hq" in page.get("/").text and "<b>hq" not in page.get("/").text
    status = page.get("/api/status").json()
    assert status["cameras"][0]["state"] == "failed"
    assert status["health"] == {"ok": True, "problems": [], "stuck": []}
    assert {"spool", "uploads", "upload_rate", "waiting_bytes", "version", "started_at"} <= status.keys()
    assert page.get("/metrics").text == "facerelay_x 1\n"
    assert (page.get("/healthz").status_code, page.get("/healthz").text) == (200, "ok\n")
    assert page.get("/login").headers["location"] == "/"
    for path in ("/docs", "/openapi.json", "/../app.py", "/app.py", "/api/cameras/9/picture"):
        assert page.get(path).status_code == 404, path


def test_a_picture_is_made_when_it_was_asked_for(book: StatusBook, live: LivePicture) -> None:
    page = client(book, live)
    assert page.get("/api/cameras/0/picture").status_code == 204
    live.frame(Frame(picture(), utc_now(), 0, 0.0), [])
    answer = page.get("/api/cameras/0/picture")
    assert answer.headers["content-type"] == "image/jpeg" and answer.content[:2] == b"\xff\xd8"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/api/status", "/page.js", "/api/cameras/0/picture", "/nothing"])
def test_no_answer_may_be_kept_framed_or_used_elsewhere(book: StatusBook, live: LivePicture, path: str) -> None:
    headers = client(book, live).get(path).headers
    assert headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8090", "", "[::1", "10.0.0.9"]
)
def test_another_name_that_leads_here_is_refused(book: StatusBook, live: LivePicture, host: str) -> None:
    page = client(book, live)
    for path in ("/", "/api/status", "/metrics", "/healthz", "/login"):
        assert page.get(path, headers={"host": host}).status_code == 421
    for host in ("127.0.0.1:8090", "localhost", "LOCALHOST:1", "[::1]:8090"):
        assert page.get("/api/status", headers={"host": host}).status_code == 200


class TestWithAToken:
    @pytest.fixture
    def page(self, book: StatusBook, live: LivePicture) -> TestClient:
        return client(book, live, TOKEN, "http://gateway.site.example:8090")

    def test_nothing_is_shown_without_it(self, page: TestClient) -> None:
        assert page.get("/").headers["location"] == "/login"
        for path in ("/api/status", "/metrics", "/api/cameras/0/picture", "/page.js", f"/api/status?token={TOKEN}"):
            assert page.get(path).status_code == 401, path
        for header in ("Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ÿ"):
            assert page.get("/api/status", headers={"authorization": header.encode("latin-1")}).status_code == 401
        assert page.get("/healthz").status_code == 200

    def test_programs_send_it_as_bearer(self, page: TestClient) -> None:
        for path in ("/api/status", "/metrics"):
            assert page.get(path, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200

    def test_people_log_in_and_out(self, page: TestClient) -> None:
        assert 'name="token"' in page.get("/login").text
        assert page.post("/login", data={"token": "wrong"}).status_code == 401
        answer = page.post("/login", data={"token": TOKEN}, headers={"origin": "http://gateway.site.example:8090"})
        cookie = answer.headers["set-cookie"].lower()
        assert answer.status_code == 303 and "httponly" in cookie and "samesite=strict" in cookie
        assert TOKEN not in cookie
        assert page.get("/api/status").status_code == page.get("/").status_code == 200
        assert page.post("/logout").status_code == 303
        assert page.get("/api/status").status_code == 401

    def test_a_form_of_another_page_is_refused(self, page: TestClient) -> None:
        for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
            assert page.post("/login", data={"token": TOKEN}, headers=headers).status_code == 403

    @pytest.mark.parametrize("body", [b"token=" + b"x" * 5_000, b"\xff\xfe", b"a=1&" * 100])
    def test_rubbish_is_refused(self, page: TestClient, body: bytes) -> None:
        assert page.post("/login", content=body).status_code in {400, 401}

    def test_guessing_ends(self, page: TestClient) -> None:
        for _ in range(10):
            assert page.post("/login", data={"token": "wrong"}).status_code == 401
        assert page.post("/login", data={"token": TOKEN}).status_code == 429


def test_sessions_end_and_tries_are_forgotten() -> None:
    now = [0.0]
    access = Access(TOKEN, now_s=lambda: now[0])
    session = access.log_in(TOKEN)
    assert session and access.allowed({}, {"facerelay_edge": session})
    now[0] += 13 * 3600
    assert not access.allowed({}, {"facerelay_edge": session})
    for _ in range(10):
        access.log_in("wrong")
    with pytest.raises(TooManyTries):
        access.log_in(TOKEN)
    now[0] += 61
    assert access.log_in(TOKEN)
    assert same_origin({}) and not same_origin({"sec-fetch-site": "same-site"})


def test_whoever_may_not_know_cameras_learns_only_that_something_is_stuck(live: LivePicture) -> None:
    book = StatusBook(lambda: Health(("camera vault: no frame",), ("vault",)))
    answer = client(book, live, TOKEN).get("/healthz")
    assert answer.status_code == 503
    assert answer.text == "cameras without progress: 1\n"


def test_rates_are_of_the_last_ten_seconds(book: StatusBook, tmp_path: Path) -> None:
    now = [0.0]
    settings = EdgeSettings(edge_spool_dir=tmp_path / "other", edge_drain_s=0.0)
    gateway = build_gateway(settings, [CameraSpec("a", "x")], FaultyBlobStore(), detector_factory=ColourDetector)
    try:
        book = StatusBook(gateway.health, now_s=lambda: now[0])
        report = gateway.report()
        for second in range(30):
            now[0], report.cameras[0].frames = float(second), second * 2 if second < 15 else 30 + (second - 15) * 8
            report.cameras[0].detector_runs, report.cameras[0].frames_grabbed = second, second * 25
            report.uploads.uploaded = second
            book.update(report)
        document = book.document()
    finally:
        gateway.close()
    rates = [document["cameras"][0][name] for name in ("worked_on_fps", "looked_at_fps", "grabbed_fps")]
    assert rates == [8.0, 1.0, 25.0]
    assert document["upload_rate"]["crops_per_minute"] == 60.0


def test_where_a_gateway_is_holds_no_secret_and_rubbish_is_nobody(tmp_path: Path) -> None:
    RunningGateway(7, "http://127.0.0.1:8090").write(tmp_path)
    state = tmp_path / "gateway.json"
    assert state.stat().st_mode & 0o777 == 0o600
    assert RunningGateway.read(tmp_path) == RunningGateway(7, "http://127.0.0.1:8090")
    for rubbish in ("", "[]", "{}", '{"pid": "x", "url": 1}', '{"pid": 1, "url": "file:///etc/passwd"}', "{" * 10_000):
        state.write_text(rubbish)
        assert RunningGateway.read(tmp_path) is None
    RunningGateway.remove(tmp_path)
    assert RunningGateway.read(tmp_path) is None


def test_a_gateway_runs_though_it_cannot_say_where_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As on a full disk: what fills it is sent all the same."""
    (tmp_path / "gateway.new" / "in the way").mkdir(parents=True)
    RunningGateway(7, "http://127.0.0.1:8090").write(tmp_path)
    assert "`edge status` will not find this gateway" in caplog.text
    assert RunningGateway.read(tmp_path) is None
    RunningGateway.remove(tmp_path)


def test_the_page_needs_nothing_of_elsewhere_and_puts_no_text_in_as_markup() -> None:
    folder = Path(__file__).parents[3] / "local" / "edge_page"
    for path in [*folder.glob("page.*"), *folder.glob("*.jinja")]:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|innerHTML|insertAdjacentHTML|document\.write|eval\(|style=|onclick=", text), (
            path
        )
