"""Tokens on the command line, what clients show, and when `serve` asks for it."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from local.cli import app
from local.cli.serve import with_auth
from local.client import Client
from shared.access import parse
from shared.settings import Settings


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACERELAY_DATA_DIR", str(tmp_path))

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["token", *arguments])

    return invoke


class TestTokenCommands:
    def test_the_text_alone_is_on_standard_output(self, run) -> None:
        made = run("create", "admin")
        assert made.exit_code == 0 and parse(made.stdout.strip()) is not None
        assert made.stdout.strip() not in made.stderr

    def test_made_listed_and_revoked(self, run) -> None:
        made = json.loads(
            run("create", "device", "--site", "hq", "--days", "3", "--description", "lobby", "--json").stdout
        )
        assert made["scope"] == "device" and made["site"] == "hq"
        text = made.pop("token")
        listed = run("list", "--json")
        assert json.loads(listed.stdout) == [made]
        assert text[-43:] not in listed.stdout and "hash" not in listed.stdout
        assert "valid" in run("list").stdout
        assert run("revoke", made["token_id"]).exit_code == 0
        assert json.loads(run("list", "--json").stdout)[0]["revoked_at"] is not None
        assert "revoked" in run("list").stdout

    def test_the_token_itself_can_be_revoked(self, run) -> None:
        text = run("create", "operator").stdout.strip()
        assert run("revoke", text).exit_code == 0
        assert json.loads(run("list", "--json").stdout)[0]["revoked_at"] is not None

    @pytest.mark.parametrize(
        "arguments",
        [["create", "device"], ["create", "admin", "--site", "x"], ["revoke", "000000000000"], ["create", "root"],
         ["create", "admin", "--days", "0"]],
    )  # fmt: skip
    def test_what_cannot_be_is_said_in_a_line(self, run, arguments: list[str]) -> None:
        done = run(*arguments)
        assert done.exit_code != 0 and "Traceback" not in done.output
        assert json.loads(run("list", "--json").stdout) == []


class TestServe:
    @pytest.mark.parametrize(
        ("asked", "given", "loopback", "expected"),
        [
            (None, {}, True, False),
            (True, {}, True, True),
            (False, {}, True, False),
            (None, {"auth": True}, True, True),
            (None, {"auth": False}, True, False),
            (False, {"auth": True}, True, False),
            (None, {}, False, True),
            (True, {"auth": False}, False, True),
            (None, {"auth": True}, False, True),
        ],
    )
    def test_callers_are_asked_unless_only_this_machine_can_call(
        self, asked: bool | None, given: dict[str, bool], loopback: bool, expected: bool
    ) -> None:
        assert with_auth(Settings(**given), asked, loopback=loopback).auth is expected

    @pytest.mark.parametrize(("asked", "given"), [(False, {}), (False, {"auth": True}), (None, {"auth": False})])
    def test_it_is_never_off_where_others_can_call(
        self, asked: bool | None, given: dict[str, bool], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(typer.Exit):
            with_auth(Settings(**given), asked, loopback=False)
        assert "loopback" in capsys.readouterr().err

    def test_https_is_asked_for_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        with_auth(Settings(), None, loopback=False)
        assert capsys.readouterr().err.count("HTTPS") == 1
        with_auth(Settings(), None, loopback=True)
        assert capsys.readouterr().err == ""


class TestClients:
    @pytest.fixture
    def shown(self):
        headers: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers.append(self.headers["authorization"])
                body = b'{"face_ids": []}'
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", headers
        server.shutdown()
        server.server_close()
        thread.join()

    def test_a_token_is_shown_and_no_netrc_takes_its_place(
        self, shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url, headers = shown
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password else\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        Client(url, token="frl_x").call("GET", "/dataset")
        assert headers == ["Bearer frl_x"]

    def test_the_commands_take_it_from_the_environment_or_an_option(
        self, shown, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url, headers = shown
        runner = CliRunner()
        runner.invoke(app, ["people", "--url", url])
        runner.invoke(app, ["people", "--url", url, "--token", "frl_option"])
        monkeypatch.setenv("FACERELAY_TOKEN", "frl_variable")
        runner.invoke(app, ["people", "--url", url])
        assert headers[1:] == ["Bearer frl_option", "Bearer frl_variable"]
        assert headers[0] is None

    @pytest.mark.parametrize(
        "command",
        [["people"], ["whereis"], ["detections"], ["train"], ["enroll", "folder"], ["enroll", "video"],
         ["enroll", "camera"], ["recognize", "image"], ["recognize", "folder"], ["recognize", "video"],
         ["recognize", "camera"]],
    )  # fmt: skip
    def test_every_client_command_has_it_and_does_not_show_it(
        self, command: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FACERELAY_TOKEN", "frl_secret")
        monkeypatch.setenv("TERMINAL_WIDTH", "200")
        shown = CliRunner().invoke(app, [*command, "--help"])
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.stdout)
        assert "--token" in plain and "frl_secret" not in plain
