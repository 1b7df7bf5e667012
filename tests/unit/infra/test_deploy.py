"""infra/deploy.sh: its plan, and that a dry run does nothing else than to print it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pathspec
import pytest

from infra.reader import BICEP, ROOT, read

SCRIPT = ROOT / "infra" / "deploy.sh"
PLAN = Path(__file__).with_name("plan.txt")
DEV = ("--environment", "dev", "--location", "westeurope")
STEPS = ["providers", "group", "what-if", "infrastructure", "package", "code", "subscription", "smoke"]


def deploy(*arguments: str, tools: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the script; `tools` holds programs that stand before the machine's own."""
    path = os.pathsep.join([*([str(tools)] if tools else []), os.environ["PATH"]])
    env = {"PATH": path, "HOME": os.environ.get("HOME", "/")}
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, env=env, timeout=60, check=False)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """An `az` and a `curl` that write down what they are asked, and say what the script needs to hear."""
    for name in ("az", "curl"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> "{tmp_path}/calls"\n'
            'case "$*" in *functionApp*) echo app;; *functionHost*) echo app.example;; *storageAccount*) echo store;; '
            '*eventTopic*) echo topic;; *http_code*https://*) echo 401;; *http_code*) echo "${HTTP_CODE:-301}";; esac\n'
            f'case "$*" in *config-zip*) [ ! -e "{tmp_path}/fail" ] || {{ rm "{tmp_path}/fail"; exit 1; }};; esac\n'
        )
        program.chmod(0o755)
    sleep = tmp_path / "sleep"
    sleep.write_text("#!/bin/sh\n")
    sleep.chmod(0o755)
    return tmp_path


def calls(tools: Path) -> list[str]:
    log = tools / "calls"
    return log.read_text().splitlines() if log.exists() else []


def test_a_dry_run_prints_the_whole_plan_in_order_and_runs_nothing(tools: Path) -> None:
    done = deploy(*DEV, "--dry-run", tools=tools)
    assert done.returncode == 0, done.stderr
    assert done.stdout == PLAN.read_text(), (
        "if the change is meant: infra/deploy.sh … --dry-run > tests/unit/infra/plan.txt"
    )
    assert calls(tools) == []
    assert [line[2:] for line in done.stdout.splitlines() if line.startswith("# ")] == STEPS


def test_the_plan_names_only_outputs_and_parameters_that_the_bicep_has() -> None:
    plan = PLAN.read_text()
    outputs = {word.split(".")[2] for word in plan.split() if word.startswith("properties.outputs.")}
    assert outputs
    assert outputs <= read(BICEP / "main.bicep").outputs.keys()
    [line] = [line for line in plan.splitlines() if "facerelay-subscription" in line]
    given = {word.partition("=")[0] for word in shlex.split(line) if "=" in word}
    declared = read(BICEP / "eventgrid-subscription.bicep").params
    assert {name for name, default in declared.items() if default is None} == given


def test_providers_are_those_of_the_resources() -> None:
    used = {
        resource.type.split("/")[0]
        for path in BICEP.rglob("*.bicep")
        for resource in read(path).resources.values()
        if not resource.existing
    }
    registered = set(PLAN.read_text().split("--namespace ")[1:])
    names = {entry.split()[0] for entry in registered}
    always_there = {"Microsoft.Authorization", "Microsoft.Consumption"}
    by_the_platform = {"Microsoft.App"}  # Flex Consumption in a network of one's own stands on it
    assert names - by_the_platform == used - always_there


@pytest.mark.parametrize("step", ["providers", "group", "what-if", "infrastructure", "code", "subscription", "smoke"])
def test_one_step_does_what_its_part_of_the_plan_says(step: str, tools: Path) -> None:
    done = deploy(*DEV, "--only", step, tools=tools)
    assert done.returncode == 0, done.stderr
    made = calls(tools)
    assert made
    planned = PLAN.read_text().split(f"# {step}\n")[1].split("\n\n")[0].splitlines()
    assert len(made) == len(planned)
    assert [shlex.split(line)[:3] for line in made] == [shlex.split(line)[1:4] for line in planned]


def test_what_fails_at_first_is_tried_again(tools: Path) -> None:
    """A new identity's role assignments take minutes to be known everywhere."""
    (tools / "fail").touch()
    done = deploy(*DEV, "--only", "code", tools=tools)
    assert done.returncode == 0, done.stderr
    assert sum("config-zip" in call for call in calls(tools)) == 2


def test_the_smoke_test_fails_when_the_app_answers_without_tls(tools: Path) -> None:
    script = (tools / "curl").read_text().replace("${HTTP_CODE:-301}", "200")
    (tools / "curl").write_text(script)
    done = deploy(*DEV, "--only", "smoke", tools=tools)
    assert done.returncode != 0
    assert "without TLS" in done.stderr


def test_the_smoke_test_goes_on_when_nothing_listens_without_tls(tools: Path) -> None:
    """What curl says and how it ends when a connection is refused."""
    refused = 'case "$*" in *http_code*http://*) echo 000; exit 7;; esac\n'
    (tools / "curl").write_text((tools / "curl").read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{refused}"))
    done = deploy(*DEV, "--only", "smoke", tools=tools)
    assert done.returncode == 0, done.stderr
    assert "http://app.example does not answer" in done.stderr
    assert "https://app.example/database/people" in calls(tools)[-1]


@pytest.mark.parametrize("answer", ["echo 200", "echo 404", "echo 000; exit 28"])
def test_the_smoke_test_fails_when_a_call_without_a_token_is_not_refused(answer: str, tools: Path) -> None:
    script = (tools / "curl").read_text().replace("*http_code*https://*) echo 401", f"*http_code*https://*) {answer}")
    (tools / "curl").write_text(script)
    done = deploy(*DEV, "--only", "smoke", tools=tools)
    assert done.returncode == 2
    assert f"answered {answer.split()[1].rstrip(';')} without a token, not 401" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "--environment is missing"),
        (("--environment", "dev"), "--location is missing"),
        ((*DEV, "--only", "nonsense"), "no step nonsense"),
        ((*DEV, "--nonsense"), "unknown option --nonsense"),
        (("--environment", "nowhere", "--location", "westeurope"), "nowhere.parameters.json"),
        (("--environment",), "--environment needs a value"),
    ],
)
def test_what_is_missing_is_said_before_anything_runs(arguments: tuple[str, ...], complaint: str, tools: Path) -> None:
    done = deploy(*arguments, tools=tools)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert calls(tools) == []


def test_overrides_come_after_the_file(tools: Path) -> None:
    deploy(*DEV, "--only", "infrastructure", "--set", "maximumInstances=3", tools=tools)
    [call] = calls(tools)
    assert call.index("dev.parameters.json") < call.index("--parameters maximumInstances=3")


def test_shellcheck_finds_nothing() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [shellcheck, "--enable=all", "--exclude=SC2310,SC2312,SC2250", SCRIPT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_funcignore_leaves_what_the_package_holds() -> None:
    ignored = pathspec.GitIgnoreSpec.from_lines((ROOT / ".funcignore").read_text().splitlines())
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    sent = {name.split("/")[0] for name in listed.stdout.splitlines() if not ignored.match_file(name)}
    archived = next(line for line in PLAN.read_text().splitlines() if "git archive" in line)
    assert sent == set(archived.split(" HEAD ")[1].split())
    assert not ignored.match_file("weights/facenet.onnx")
    assert ignored.match_file("shared/__pycache__/settings.cpython-313.pyc")
    assert ignored.match_file(".venv/pyvenv.cfg") and ignored.match_file("local.settings.json")


def test_the_weights_lie_where_the_app_looks_for_them() -> None:
    folder = read(BICEP / "modules" / "functions.bicep").variables["appSettings"]["FACERELAY_MODEL_CACHE"]
    assert folder == "/home/site/wwwroot/weights"
    assert "build/package/weights/" in PLAN.read_text()


def test_azd_runs_the_same_steps() -> None:
    text = (ROOT / "azure.yaml").read_text()
    for step in ("package", "subscription"):
        assert f"infra/deploy.sh --only {step}" in text
    assert "project: build/package" in text
    assert "path: infra/bicep" in text
    service = read(BICEP / "modules" / "functions.bicep").resources["app"].body["tags"]
    assert "'azd-service-name': 'api'" in service
    json.loads((BICEP / "main.parameters.json").read_text())


def test_every_parameter_and_step_and_alert_is_documented() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text()
    alerts = read(BICEP / "modules" / "alerts.bicep")
    names = [alert["name"] for alert in alerts.variables["logAlerts"]] + ["cosmos-429", "undelivered"]
    for name in [*read(BICEP / "main.bicep").params, *STEPS, *names]:
        assert f"`{name}`" in text, name
    for file in sorted(BICEP.glob("modules/*.bicep")):
        assert f"`{file.name}`" in text


def test_the_costs_in_the_documentation_are_the_computed_ones() -> None:
    costs = ROOT / "infra" / "costs.py"
    done = subprocess.run([sys.executable, costs], capture_output=True, text=True, check=True)
    assert (
        f"<!-- costs: python infra/costs.py -->\n{done.stdout}<!-- end of costs -->"
        in (ROOT / "docs" / "deploy.md").read_text()
    ), "run python infra/costs.py and put the tables into docs/deploy.md"
