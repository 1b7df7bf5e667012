"""The gateway's file: what it may say, what is told of mistakes, and what rules over what."""

from __future__ import annotations

import re
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import SecretStr

from edge_uploader.camera import CameraSpec
from edge_uploader.config.file import (
    FileProblems,
    camera_settings,
    find_file,
    load_file,
    settings_over,
)
from edge_uploader.config.sample import sample, write_sample
from edge_uploader.config.schema import camera_keys, json_schema, keys
from edge_uploader.config.tree import MAX_BYTES, read_tree
from edge_uploader.settings import EdgeSettings
from shared.errors import ConfigurationError


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "edge.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        path.chmod(mode)
        return path

    return write


def problems(path: Path, **environment: str) -> list[str]:
    with pytest.raises(FileProblems) as caught:
        load_file(path, environment)
    return [str(problem) for problem in caught.value.problems]


def test_everything_that_is_wrong_is_told_at_once_by_line_column_key_and_what_to_do(file) -> None:
    path = file(
        """\
        site: museum
        sits: x
        fps: 5
        edge_fps: 3
        spool:
          dirr: x
          limit_bytes: many
        spool_dir: /x
        cameras:
          - name: door
            source: rtsp://u:secret@10.0.0.9/1
            fps: 400
            fpss: 2
            site: other
          - source: 0
          - name: b
            source: ${NOPE}x
        fps: 8
        """,
        0o644,
    )
    told = problems(path)
    assert told == [
        "line 2, column 1: sits: there is no such key; did you mean `site`?",
        "line 4, column 1: edge_fps: there is no such key; write `fps`",
        "line 6, column 3: spool.dirr: there is no such key; did you mean `dir`?",
        "line 7, column 16: spool.limit_bytes: must be a valid integer, unable to parse string as an integer, "
        "not 'many'",
        "line 8, column 1: spool_dir: there is no such key here; write `dir` in the section `spool`",
        "line 11, column 13: cameras[0].source: a password in a file that others may read; "
        f"`chmod 600 {path}`, or use password_file or ${{NAME}}",
        "line 12, column 10: cameras[0].fps: must be less than or equal to 120, not '400'",
        "line 13, column 5: cameras[0].fpss: there is no such key; did you mean `fps`?",
        "line 14, column 5: cameras[0].site: concerns the whole gateway; it cannot be set for one camera",
        "line 15, column 5: cameras[1].name: is missing; add `name: door`",
        "line 17, column 13: cameras[2].source: the environment variable NOPE is not set",
        "line 18, column 1: fps: is there twice; the first is in line 3",
    ]
    assert "secret" not in "".join(told).replace("secrets", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &x [1]\nb: *x\n", "line 1, column 4: anchors (&) and aliases (*) are not used here"),
        ("a: *x\n", "line 1, column 4: anchors (&) and aliases (*)"),
        ("site: !!python/object/apply:os.system [id]\n", "line 1, column 7: tags (!) are not used here"),
        ("site: !!binary aGk=\n", "tags (!) are not used"),
        ("site: a\n---\nsite: b\n", "line 2, column 1: a second document"),
        ("a: " + "[" * 9 + "]" * 9, "nested more than 8 deep"),
        ("a: [" + "x," * 20_001 + "]", "more than 20,000 keys and values"),
        ("- a\n- b\n", "line 1, column 1: the file must be keys with values"),
        ("page:\n\tport: 1\n", "line 2, column 1: a tab; indent with spaces"),
        ("site: a: b\n", "line 1, column 8: a colon where none can be"),
        ("? [a]\n: b\n", "a key must be one word"),
        ("spool: 5\n", "line 1, column 8: spool: keys with values are expected here"),
        ("cameras: {name: door}\n", "line 1, column 10: cameras: a list is expected"),
        ("low_confidence: 0.9\n", "line 1, column 17: low_confidence: low_confidence is above high_confidence"),
        ("cameras:\n  - {name: a, source: b, min_face_px: 300}\n", "cameras[0].min_face_px: min_face_px is above max"),
        ("cameras:\n  - {name: a, source: b}\n  - {name: a, source: c}\n", "another camera is called 'a'"),
        ("service: {url: 'https://x'}\n", "service.url: service.url and service.token are set both, or neither"),
        ("page: {address: 0.0.0.0}\n", "page.address can be reached from elsewhere; page.token must be set"),
        ("page: {token: short}\n", "page.token is shorter than 16 characters"),
        ("cameras:\n  - {name: a, source: b, password_file: p}\n", "needs a source with a user and no password"),
        ("service: {token_file: nowhere}\n", "nowhere cannot be read: No such file"),
        ("site: ${9}\n", "is not the name of an environment variable"),
    ],
)
def test_mistakes(file, text: str, told: str) -> None:
    assert told in "\n".join(problems(file(text)))


def test_bombs_and_rubbish_cost_nothing_and_raise_nothing_else() -> None:
    laughs = "a: &a [x]\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefgh"))
    for raw in (laughs.encode(), b"\xff\xfe\x00", b"x" * (MAX_BYTES + 1), b"[" * 100_000, b"\x00", b'a: "\\u12"'):
        assert read_tree(raw).problems


def test_scalars_are_what_was_written(file) -> None:
    """YAML 1.1 reads these as False, 10, 43 200 and a date."""
    path = file("site: no\nlocation: 12:00\ncameras:\n  - {name: 012, source: 0}\n  - {name: 2026-01-02, source: x}\n")
    found = load_file(path)
    assert found.settings == {"edge_site": "no", "edge_location": "12:00"}
    assert [(spec.name, spec.source) for spec in found.cameras] == [("012", "0"), ("2026-01-02", "x")]


def test_an_empty_file_and_empty_sections_say_nothing(file) -> None:
    assert load_file(file("")).settings == {}
    assert load_file(file("site: museum\nspool:\n  # dir: x\npage: {}\ncameras:\n")).settings == {"edge_site": "museum"}


def test_secrets_come_from_files_and_the_environment(file, tmp_path: Path) -> None:
    for name, text in {"token": "t" * 20 + "\n", "door": "p@ss/w\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    path = file(
        """\
        service: {url: 'https://x', token_file: token}
        page: {token: '${PAGE}'}
        cameras:
          - {name: door, source: 'rtsp://user@10.0.0.9/1', password_file: door}
          - {name: gate, source: 'rtsp://user:${GATE}@10.0.0.9/1?a=$${x}'}
        """,
        0o644,
    )
    found = load_file(path, {"PAGE": "q" * 16, "GATE": "g"})
    assert found.settings["edge_token"] == SecretStr("t" * 20)
    assert found.settings["edge_page_token"] == SecretStr("q" * 16)
    assert [spec.source for spec in found.cameras] == [
        "rtsp://user:p%40ss%2Fw@10.0.0.9/1",
        "rtsp://user:g@10.0.0.9/1?a=${x}",
    ]
    (tmp_path / "token").chmod(0o604)
    assert "can be read by everybody" in problems(path, PAGE="q" * 16, GATE="g")[0]


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_plain_secret_is_for_private_files(file, mode: int) -> None:
    text = "service: {url: 'https://x', token: abc}\n"
    assert load_file(file(text, mode)).settings["edge_token"] == SecretStr("abc")
    (told,) = problems(file(text, 0o644))
    assert "a token in a file that others may read" in told and "abc" not in told


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://admin:geh/eim@10.0.0.9/ch1",
        "rtsp://10.0.0.9?user=a&password=geheim",
        "rtsp://10.0.0.9:554/user=admin&password=geheim&stream=0.sdp",
        "http://10.0.0.9/video?usr=a&pwd=geheim",
    ],
)
def test_a_password_is_found_wherever_cameras_want_it(file, source: str) -> None:
    text = "cameras:\n  - {name: a, source: '%s'}\n"
    assert load_file(file(text % source)).cameras[0].source == source
    (told,) = problems(file(text % source, 0o644))
    assert "a password in a file that others may read" in told and "eim" not in told
    hidden = source.replace("geh/eim", "${PW}").replace("geheim", "${PW}")
    assert load_file(file(text % hidden, 0o644), {"PW": "geheim"}).cameras


def test_command_line_over_environment_over_file_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    from_file = {"edge_fps": 3.0, "edge_min_face_px": 60, "edge_site": "file"}
    monkeypatch.setenv("FACERELAY_EDGE_MIN_FACE_PX", "70")
    monkeypatch.setenv("FACERELAY_EDGE_SITE", "environment")
    settings = settings_over(from_file, {"edge_site": "option"})
    assert (settings.edge_site, settings.edge_min_face_px, settings.edge_fps) == ("option", 70, 3.0)
    assert settings.edge_detect_px == EdgeSettings.model_fields["edge_detect_px"].default


def test_a_camera_stands_over_the_file_and_under_environment_and_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACERELAY_EDGE_MIN_FACE_PX", "70")
    options = {"edge_fps": 4.0}
    settings = settings_over({"edge_fps": 3.0, "edge_detect_px": 640, "edge_site": "x"}, options)
    overrides = {"edge_fps": 9.0, "edge_min_face_px": 90, "edge_detect_px": 1280, "edge_shots_per_track": 5}
    own = camera_settings(settings, overrides, options)
    assert (own.edge_fps, own.edge_min_face_px) == (4.0, 70)
    assert (own.edge_detect_px, own.edge_shots_per_track, own.edge_site) == (1280, 5, "x")
    assert settings.edge_detect_px == 640
    with pytest.raises(ConfigurationError, match="above"):
        camera_settings(settings, {"edge_low_confidence": 0.9})


def test_the_nearest_file_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_uploader.config.file.user_config_path", lambda _: tmp_path / "user")
    assert find_file(tmp_path) in {None, Path("/etc/facerelay/edge.yaml")}
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "edge.yaml").touch()
    assert find_file(tmp_path) == tmp_path / "user" / "edge.yaml"
    (tmp_path / "edge.yaml").touch()
    assert find_file(tmp_path) == tmp_path / "edge.yaml"


def test_every_setting_has_one_key_and_every_camera_key_is_a_setting() -> None:
    assert sorted(keys().values()) == sorted(EdgeSettings.model_fields)
    assert {"fps", "min_face_px", "detect_px", "shots_per_track", "stream_timeout_s"} <= camera_keys().keys()
    assert not {"site", "drain_s", "data_dir", "backend", "spool", "page"} & camera_keys().keys()


def test_the_schema_knows_every_key() -> None:
    schema = json_schema()
    for key in keys():
        part = schema
        if len(key) == 2:
            part = schema["$defs"][key[0].title()]
        assert key[-1] in part["properties"], key
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Camera"]["required"] == ["name", "source"]


def test_the_sample_is_valid_and_so_is_every_key_that_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "edge.yaml"
    cameras = [CameraSpec("door", "rtsp://u:p@h/1?x=${y}", 'the "main" hall', 7)]
    write_sample(path, sample(path, cameras, "museum"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_file(path).cameras == tuple(cameras)
    with pytest.raises(ConfigurationError, match="is there already"):
        write_sample(path, "")
    (tmp_path / "token").write_text("t" * 20)
    (tmp_path / "token").chmod(0o600)
    everything = re.sub(r"^( *)#(\w)", r"\1\2", path.read_text(), flags=re.M)
    everything = everything.replace('url: ""', "url: https://x")
    everything = re.sub(r"_file: /etc/facerelay/\w+", "_file: token", everything)
    path.write_text(everything)
    found = load_file(path)
    assert found.settings.keys() >= {name for name in EdgeSettings.model_fields if name.startswith("edge_")}


def test_the_sample_without_a_camera_shows_one_to_fill_in(tmp_path: Path) -> None:
    tree = read_tree(sample(tmp_path / "edge.yaml", []).encode())
    assert not tree.problems
    assert tree.data["cameras"][0]["name"] == "door"
