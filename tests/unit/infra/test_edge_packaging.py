"""The gateway's unit, container and requirements, as far as they can be checked without a daemon."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from infra.reader import ROOT

EDGE = ROOT / "infra" / "edge"
UNIT = EDGE / "facerelay-edge.service"
LISTS = ("requirements.txt", "requirements-local.txt")


def pins(path: Path) -> dict[str, str]:
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", path.read_text(encoding="utf-8"), re.M)
    return {name.lower(): version for name, version in lines}


@pytest.fixture(scope="module")
def service() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return parser["Service"]


def test_the_unit_restarts_for_ever_and_is_watched(service: configparser.SectionProxy) -> None:
    assert (service["Type"], service["Restart"], service["NotifyAccess"]) == ("notify", "always", "main")
    assert int(service["WatchdogSec"]) >= 30 and "StartLimitIntervalSec=0" in UNIT.read_text(encoding="utf-8")
    assert service["ExecStart"].startswith(
        "/opt/facerelay/current/bin/facerelay edge run --config /etc/facerelay/edge.yaml"
    )


def test_the_unit_may_write_its_state_and_see_cameras_alone(service: configparser.SectionProxy) -> None:
    assert service["ProtectSystem"] == "strict" and "ReadWritePaths" not in service
    assert service["NoNewPrivileges"] == service["PrivateTmp"] == service["ProtectHome"] == "yes"
    assert (service["DevicePolicy"], service["DeviceAllow"]) == ("closed", "char-video4linux rw")
    assert service["User"] != "root" and service["CapabilityBoundingSet"] == ""
    assert service["LoadCredential"].startswith("secret:/etc/facerelay/secrets")


def test_the_service_waits_longer_than_the_gateway_drains(service: configparser.SectionProxy) -> None:
    """By default 30 s for the spool, 15 s for the cameras and 10 s for an upload under way."""
    assert int(service["TimeoutStopSec"]) > 30 + 15 + 10


def test_systemd_takes_the_unit_and_thinks_well_of_it(tmp_path: Path) -> None:
    analyse = shutil.which("systemd-analyze")
    if analyse is None:
        pytest.skip("no systemd-analyze here: the unit is only parsed")
    copy = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.M), encoding="utf-8")
    done = subprocess.run([analyse, "verify", str(copy)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and UNIT.name not in done.stderr, done.stderr
    done = subprocess.run(
        [analyse, "security", "--offline=true", "--threshold=22", str(copy)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout[-300:]


def test_the_image_is_lean_not_roots_and_says_how_it_is() -> None:
    text = (EDGE / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) == {"python:3.11.14-slim-bookworm"}, "one base, and pinned"
    assert re.search(r"^USER 10001", text, re.M) and "HEALTHCHECK" in text and "--only-binary=:all:" in text
    last = text.rindex("FROM ")
    assert "pip install" not in text[last:] and "COPY . ." not in text[last:]


def test_the_image_gets_what_the_wheel_is_made_of_and_nothing_else() -> None:
    listed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M)
    assert all((ROOT / name).exists() for name in listed)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.search(r'^include = \["(.+)"\]', project, re.M)
    assert packages is not None
    assert {name.rstrip("*") for name in packages[1].split('", "')} <= set(listed)
    assert {*LISTS, "README.md", "LICENSE", "function_app.py"} <= set(listed)


def test_the_containers_are_bounded() -> None:
    document = yaml.safe_load((EDGE / "compose.yaml").read_text(encoding="utf-8"))
    gateway = document["services"]["gateway"]
    assert gateway["restart"] == "always" and gateway["read_only"] and gateway["mem_limit"]
    assert {"max-size", "max-file"} <= set(gateway["logging"]["options"])
    assert {volume.split(":")[0] for volume in gateway["volumes"][:2]} == set(document["volumes"])
    assert set(gateway["secrets"]) == set(document["secrets"])


def test_the_gateways_pins_are_those_of_the_other_lists() -> None:
    edge, others = pins(ROOT / "edge_uploader" / "requirements.txt"), {}
    for name in LISTS:
        others |= pins(ROOT / name)
    transitive = {"opentelemetry-sdk"}
    assert {name: version for name, version in edge.items() if others.get(name, version) != version} == {}
    assert set(edge) - set(others) - {"pyyaml"} == transitive
    assert not set(edge) & {"scikit-learn", "faiss-cpu", "azure-functions", "azure-cosmos", "matplotlib", "joblib"}
    assert edge["opentelemetry-sdk"] == edge["opentelemetry-api"]
