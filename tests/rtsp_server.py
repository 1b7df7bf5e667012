"""A camera as cameras are: an RTSP server that plays a file in a loop, and misbehaves when it is told to.

Run with the system's Python, which has GStreamer's RTSP server (Debian: `python3-gi gir1.2-gst-rtsp-server-1.0
gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad ffmpeg`):

    /usr/bin/python3 tests/rtsp_server.py clip.mp4 --port 8554 --size 640x360 --fps 25

It prints `ready rtsp://127.0.0.1:PORT/cam` when it listens. The file is encoded once, before that; afterwards the
server only sends, so that it costs next to nothing beside what is tested. Signals:

- SIGUSR1: the picture freezes, or goes on; packets flow all the while.
- SIGUSR2: no packets any more, or again; the connection stays open and RTSP is answered.
- SIGSTOP, SIGCONT, SIGKILL: as they are: nothing is answered, nothing is closed; everything is cut.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import signal
import subprocess
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

CAPS = {"h264": "video/x-h264,stream-format=byte-stream,alignment=au", "mjpeg": "image/jpeg"}
PAYLOADERS = {
    "h264": "h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1",
    "mjpeg": "jpegparse ! rtpjpegpay name=pay0 pt=26",
}
SEPARATORS = {"h264": b"\x00\x00\x00\x01\x09", "mjpeg": b"\xff\xd8\xff"}


def load(keep: Path | None, arguments: argparse.Namespace) -> list[bytes]:
    """Access units, from the file where an earlier start has kept them, else encoded anew."""
    if keep is not None and keep.is_file():
        data = keep.read_bytes()
    else:
        data = encode(arguments.file, arguments.codec, arguments.size, arguments.fps, arguments.gop)
        if keep is not None:
            keep.write_bytes(data)
    separator = SEPARATORS[arguments.codec]
    return [separator + unit for unit in data.split(separator)[1:]]


def encode(path: Path, codec: str, size: str, fps: float, gop: int) -> bytes:
    """The file as H.264 with a key frame every `gop` pictures, or as JPEGs, end to end."""
    filters = [f"fps={fps}"] + ([f"scale={size.replace('x', ':')}"] if size else [])
    how = {
        "h264": f"-c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -bf 0 -g {gop} "
        "-x264-params aud=1:scenecut=0:sliced-threads=0 -f h264",
        "mjpeg": "-c:v mjpeg -q:v 5 -pix_fmt yuvj420p -huffman default -f mjpeg",
    }[codec]
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-an", "-vf", ",".join(filters), *how.split(), "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


class Player:
    """Pushes access units at their pace into whichever pipeline is there."""

    def __init__(self, units: list[bytes], codec: str, fps: float, gop: int) -> None:
        self.units, self.gop = units, gop if codec == "h264" else 1
        self.interval_ns = int(1e9 / fps)
        self.frozen = self.stalled = False
        self.source: Gst.Element | None = None
        self.sent = 0
        self.position = 0

    def attach(self, _factory: object, media: GstRtspServer.RTSPMedia) -> None:
        """A client is there: a new pipeline begins, at a key frame."""
        self.source = media.get_element().get_by_name("camera")
        self.sent, self.position = 0, self.position - self.position % self.gop
        media.connect("unprepared", self.detach, self.source)

    def detach(self, _media: object, source: Gst.Element) -> None:
        if self.source is source:
            self.source = None

    def tick(self) -> bool:
        """Sends one picture. Frozen: the last key frame once more, which decodes to the same picture."""
        if self.source is not None and not self.stalled:
            at = self.position - self.position % self.gop if self.frozen else self.position
            buffer = Gst.Buffer.new_wrapped(self.units[at % len(self.units)])
            # No time stamps of our own: appsrc stamps with the pipeline's running time, as a camera does.
            self.source.emit("push-buffer", buffer)
            self.sent += 1
            if not self.frozen:
                self.position = (self.position + 1) % len(self.units)
        return True

    def toggle(self, what: str) -> bool:
        setattr(self, what, not getattr(self, what))
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--port", type=int, default=8554)
    parser.add_argument("--codec", choices=tuple(CAPS), default="h264")
    parser.add_argument("--size", default="", help="WIDTHxHEIGHT")
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--gop", type=int, default=25)
    parser.add_argument("--keep", type=Path, help="keep the encoded video here, for the next start")
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    arguments = parser.parse_args()
    Gst.init(None)
    units = load(arguments.keep, arguments)
    player = Player(units, arguments.codec, arguments.fps, arguments.gop)

    factory = GstRtspServer.RTSPMediaFactory()
    caps = f"{CAPS[arguments.codec]},framerate={round(arguments.fps * 1000)}/1000"
    factory.set_launch(
        f"( appsrc name=camera is-live=true format=time do-timestamp=true max-bytes=4000000 leaky-type=downstream "
        f"caps={caps} ! {PAYLOADERS[arguments.codec]} )"
    )
    factory.set_shared(True)
    factory.connect("media-configure", player.attach)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(arguments.port))
    if arguments.user:
        protect(server, factory, arguments.user, arguments.password)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        raise SystemExit(f"port {arguments.port} is taken")
    GLib.timeout_add(max(1, round(1000 / arguments.fps)), player.tick)
    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGUSR1, player.toggle, "frozen")
    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGUSR2, player.toggle, "stalled")
    print(f"ready rtsp://127.0.0.1:{server.get_bound_port()}/cam", flush=True)
    GLib.MainLoop().run()


def protect(server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, user: str, word: str) -> None:
    """Basic authentication, as most cameras have it."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, word), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    for what in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role("viewer", what, True)
    factory.set_permissions(permissions)


if __name__ == "__main__":
    main()
