"""infra/edge/facerelay-edge.sh with real virtual environments, wheels made here, and a systemctl that writes down."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.reader import ROOT

SCRIPT = ROOT / "infra" / "edge" / "facerelay-edge.sh"
TOOL = SCRIPT.with_name("facerelay-edge")
UNIT = SCRIPT.with_name("facerelay-edge.service")

PROGRAM = """
import json, os, sys
def main():
    if sys.argv[1:3] == ["edge", "check"]:
        text = open(sys.argv[sys.argv.index("--config") + 1]).read()
        secret = open(os.environ["CREDENTIALS_DIRECTORY"] + "/secret_token").read()
        password = os.environ["HALL_PASSWORD"] == 'two "words"' and "COMMENT" not in os.environ
        known = password and secret == "frl_x" and ("new_key" not in text or VERSION != "4.0")
        camera = {"what": "camera door", "ok": False, "detail": "does not answer"}
        checks = [{"what": "file", "ok": known, "detail": "new_key"}, camera]
        print(json.dumps({"ok": False, "checks": checks, "page": None}))
    if sys.argv[1:3] == ["edge", "status"]:
        print(VERSION, os.environ["FACERELAY_DATA_DIR"], *sys.argv[3:])
"""


def wheel(folder: Path, version: str) -> Path:
    """The smallest wheel that the script can install."""
    path = folder / f"facerelay-{version}-py3-none-any.whl"
    info = f"facerelay-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("edge_uploader/__init__.py", f"VERSION = {version!r}\n{PROGRAM}")
        made.writestr("edge_uploader/requirements.txt", "# none\n")
        made.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: facerelay\nVersion: {version}\n")
        made.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{info}/entry_points.txt", "[console_scripts]\nfacerelay = edge_uploader:main\n")
        made.writestr(f"{info}/RECORD", "")
    return path


class Machine:
    """A folder that stands for a machine: the script, its systemctl, and the health page of what is current."""

    def __init__(self, folder: Path, health_url: str) -> None:
        self.folder, self.health_url = folder, health_url
        self.root, self.calls = folder / "root", folder / "calls"
        self.base = self.root / "opt" / "facerelay"
        self.config = self.root / "etc" / "facerelay"
        self.unit = self.root / "etc" / "systemd" / "system" / UNIT.name
        (folder / "none").mkdir()
        self.root.mkdir()
        self.systemctl = folder / "systemctl"
        self.systemctl.write_text(f'#!/bin/sh\necho "$*" >> "{self.calls}"\n')
        self.systemctl.chmod(0o755)

    def run(self, *arguments: str, settle_s: int = 0, asks_page: bool = True) -> subprocess.CompletedProcess[str]:
        options = ["--root", str(self.root), "--python", sys.executable, "--health-url", self.health_url]
        options = options[: None if asks_page else -2] + ["--health-s", "1", "--settle-s", str(settle_s)]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "FACERELAY_EDGE_SYSTEMCTL": str(self.systemctl)}
        return subprocess.run([SCRIPT, *arguments, *options], capture_output=True, text=True, env=env, timeout=110)

    def install(self, action: str, version: str, *more: str, **how: int) -> subprocess.CompletedProcess[str]:
        made = wheel(self.folder, version)
        files = ["--wheel", str(made), "--wheels", str(self.folder / "none"), "--no-models"]
        return self.run(action, *files, *more, **how)

    def tell(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The operator's command."""
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "FACERELAY_EDGE_ROOT": str(self.root)}
        tool = self.root / "usr/local/bin/facerelay-edge"
        return subprocess.run([tool, *arguments], capture_output=True, text=True, env=env, timeout=60)

    def link(self, name: str) -> str:
        path = self.base / name
        return path.readlink().name if path.is_symlink() else ""

    def configure(self) -> None:
        (self.config / "edge.yaml").write_text("new_key: 1\n")
        (self.config / "secrets" / "token").write_text("frl_x")
        (self.config / "edge.env").write_text('# COMMENT=1\n\n  HALL_PASSWORD= "two \\"words\\""  \n')
        (self.root / "var/lib/facerelay/spool" / "crop").write_text("not sent yet")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Version 3.0 never gets healthy, 5.0 not for long; 4.0 does not understand the configuration."""
    holder: list[Machine] = []
    asked: list[str] = []

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(holder[0].link("current"))
            unwell = asked[-1] == "3.0" or (asked[-1] == "5.0" and asked.count("5.0") > 3)
            self.send_response(503 if unwell else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    holder.append(Machine(tmp_path_factory.mktemp("machine"), f"http://127.0.0.1:{server.server_port}/healthz"))
    yield holder[0]
    server.shutdown()
    server.server_close()


def test_a_dry_run_prints_the_plan_and_changes_nothing(machine: Machine) -> None:
    done = machine.install("install", "1.0", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert [line[3:].split(":")[0].split(" ")[0] for line in done.stdout.splitlines() if line.startswith("## ")] == [
        "environment", "folders", "configuration", "swap", "not"
    ]  # fmt: skip
    assert list(machine.root.iterdir()) == [] and not machine.calls.exists()


def test_a_life_of_versions(machine: Machine) -> None:
    """One after the other, as each needs what was before it: an environment takes seconds to make."""
    done = machine.install("install", "1.0")
    assert done.returncode == 0, done.stderr + done.stdout
    assert machine.link("current") == "1.0" and "edge init" in done.stdout
    assert machine.calls.read_text().split("\n")[:-1] == ["daemon-reload"], "nothing to start without a configuration"
    assert machine.tell().stdout.startswith("1.0 "), "the status, when nothing else is asked for"
    machine.configure()
    (machine.base / "1.0" / UNIT.name).write_text("of 1.0")

    done = machine.install("update", "2.0")
    assert done.returncode == 0, done.stderr + done.stdout
    assert (machine.link("current"), machine.link("previous")) == ("2.0", "1.0")
    assert machine.calls.read_text().splitlines()[-1] == "restart facerelay-edge.service"
    assert "camera door : does not answer" in done.stderr, "said, and no hindrance"

    assert "in use already" in machine.install("update", "2.0").stderr
    assert machine.link("current") == "2.0"

    done = machine.install("update", "3.0")
    assert done.returncode == 2 and "3.0 was taken back; 2.0 runs" in done.stderr
    assert (machine.link("current"), machine.link("previous")) == ("2.0", "1.0")

    done = machine.install("update", "5.0", settle_s=3)
    assert done.returncode == 2 and "5.0 was taken back; 2.0 runs" in done.stderr

    done = machine.install("update", "4.0")
    assert done.returncode == 2 and "does not take" in done.stderr
    assert machine.link("current") == "2.0" and machine.unit.read_text() == UNIT.read_text()

    done = machine.run("rollback")
    assert done.returncode == 0 and "1.0 is in place" in done.stdout
    assert (machine.link("current"), machine.link("previous")) == ("1.0", "2.0")
    assert machine.unit.read_text() == "of 1.0", "a unit belongs to its version"
    told = machine.tell("status", "--json").stdout.split()
    assert told == ["1.0", f"{machine.root}/var/lib/facerelay", "--json", "--config", f"{machine.config}/edge.yaml"]

    done = machine.install("update", "6.0", asks_page=False)
    assert done.returncode == 0 and machine.link("current") == "6.0", done.stderr
    assert machine.calls.read_text().splitlines()[-1] == "is-active facerelay-edge.service", "it has no page"
    done = machine.run("rollback", asks_page=False)
    assert done.returncode == 0 and machine.link("current") == "1.0", "nor has the version before it, which had no file"

    (machine.config / "edge.env").write_text("HALL_PASSWORD='no end\n")
    done = machine.install("update", "7.0")
    assert done.returncode == 2 and "line 1 is not NAME=value" in done.stderr and "does not take" in done.stderr
    machine.configure()
    kept = machine.root / "var/lib/facerelay/spool" / "crop"
    assert kept.read_text() == "not sent yet" and (machine.config / "secrets" / "token").read_text() == "frl_x"
    assert not list(machine.base.glob(".*.new"))

    done = machine.run("uninstall")
    assert done.returncode == 0 and not machine.base.exists() and kept.exists()
    assert not machine.unit.exists() and not (machine.root / "usr/local/bin/facerelay-edge").exists()
    assert machine.run("uninstall", "--purge").returncode == 0 and not kept.exists() and not machine.config.exists()


def test_whoever_interrupts_an_update_is_back_at_the_version_before(machine: Machine) -> None:
    for action, version in (("install", "1.0"), ("update", "2.0")):
        assert machine.install(action, version).returncode == 0
        machine.configure()
    made = str(wheel(machine.folder, "8.0"))
    files = ["--wheel", made, "--wheels", str(machine.folder / "none"), "--no-models", "--no-check"]
    options = ["--root", str(machine.root), "--python", sys.executable, "--health-url", machine.health_url]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "FACERELAY_EDGE_SYSTEMCTL": str(machine.systemctl)}
    with subprocess.Popen(
        [SCRIPT, "update", *files, *options, "--settle-s", "2"], stdout=-1, stderr=-1, text=True, env=env
    ) as running:
        ends = time.monotonic() + 60
        while machine.link("current") != "8.0" and time.monotonic() < ends:
            time.sleep(0.05)
        running.terminate()
        told, err = running.communicate(timeout=60)
    assert running.returncode == 2 and "8.0 was interrupted: back to 2.0" in told, told + err
    assert (machine.link("current"), machine.link("previous")) == ("2.0", "1.0")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["install"], "say what to install"),
        (["install", "--wheel", "nowhere.whl"], "there is no file nowhere.whl"),
        (["install", "--wheel", __file__], "neither a wheel nor an sdist"),
        (["update", "--source", "/"], "no checkout"),
        (["rollback"], "no earlier version"),
        (["install", "--nonsense"], "unknown option"),
        (["mend"], "there is no mend"),
        (["install", "--python"], "needs a value"),
        (["rollback", "--health-s", "soon"], "take seconds"),
    ],
)
def test_what_makes_no_sense_is_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = subprocess.run([SCRIPT, *arguments, "--root", str(tmp_path)], capture_output=True, text=True, timeout=60)
    if arguments[-1] == "--python":
        done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and told in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_update_of_nothing_is_refused(tmp_path: Path) -> None:
    made = wheel(tmp_path, "1.0")
    (tmp_path / "root").mkdir()
    done = subprocess.run(
        [SCRIPT, "update", "--wheel", str(made), "--root", str(tmp_path / "root"), "--python", sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and "nothing is installed yet" in done.stderr


def test_the_script_is_clean() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), SCRIPT, TOOL], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout
