"""The rules that keep the parts apart, checked on the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCTION = ("shared", "functions", "edge_uploader", "local", "bench")
OURS = {"shared", "functions", "edge_uploader", "local", "bench", "tests", "function_app"}
STANDARD = set(sys.stdlib_module_names)

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 50
LONG_MODULES = {
    "shared/ports.py",  # every seam in one place; two thirds are docstrings
}
LONG_FUNCTIONS = {
    ("edge_uploader/gateway.py", "build_gateway"),
    ("local/cli/edge/run.py", "run"),  # the options of a command are its parameters
}


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Full names of what a module imports anywhere, functions and type-checking blocks included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def beyond(path: Path, allowed: set[str]) -> set[str]:
    """Imports of a module that are neither standard library nor under one of the allowed names."""
    return {
        name
        for name in imports(path)
        if name.split(".")[0] not in STANDARD
        and not any(name == prefix or name.startswith(f"{prefix}.") for prefix in allowed)
    }


VOCABULARY = {"shared.domain", "shared.access", "shared.alerts"}
"""What the ports talk about."""
BASE = VOCABULARY | {"numpy", "shared.errors"}
CONTRACTS = BASE | {"shared.ports", "shared.messages"}
TIMING = {"shared.telemetry", "opentelemetry.trace"}
"""Spans are opened where the work is done; their exporter is chosen by the composition root."""

FIT = ("hygiene", "likeness", "openset", "scoring", "svm", "calibration")
"""What `functions/train/fit.py` puts together."""

RULES: list[tuple[list[str], set[str]]] = [
    (["shared/errors.py"], {"numpy"}),
    (
        ["shared/domain.py", "shared/identity.py", "shared/spelling.py"],
        {"numpy", "shared.errors", "shared.identity", "shared.spelling"},
    ),
    (["shared/ports.py", "shared/messages.py"], VOCABULARY | {"pydantic"}),
    (["shared/access.py", "shared/alerts.py"], BASE),
    (["shared/settings.py"], {"pydantic", "pydantic_settings", "platformdirs"}),
    (["shared/vision"], BASE | {"shared.ports", "shared.vision", "cv2", "onnxruntime", "PIL", "pydantic"}),
    (["shared/matching"], BASE | {"shared.matching", "faiss"}),
    (
        ["shared/telemetry.py"],
        {"shared.errors", "opentelemetry.trace", "opentelemetry.metrics", "opentelemetry.context"},
    ),
    (["shared/migration.py"], BASE | {"shared.ports"}),
    (["shared/vector_search.py"], BASE | {"shared.matching"}),
    (
        ["shared/model_registry.py"],
        BASE | {"shared.ports", "shared.matching", "shared.migration", "shared.vector_search"},
    ),
    (
        ["shared/serving.py"],
        BASE | {"shared.vision", "shared.matching", "shared.model_registry", "shared.telemetry"},
    ),
    (
        ["shared/adapters/local", "shared/adapters/naming.py"],
        BASE | {"shared.ports", "shared.adapters.local", "shared.adapters.naming"},
    ),
    (
        ["shared/adapters/azure"],
        BASE | {"shared.ports", "shared.adapters.azure", "shared.adapters.naming"} | {"azure", "tenacity", "requests"},
    ),
    (
        ["shared/adapters/telemetry.py"],
        {"shared.__version__", "shared.telemetry", "opentelemetry", "prometheus_client", "azure"},
    ),
    (["shared/adapters/webhook.py"], BASE | {"shared.ports", "shared.adapters.loopback", "requests", "tenacity"}),
    (
        [f"functions/{area}/service.py" for area in ("recognize", "enroll", "train", "query")],
        CONTRACTS
        | {"shared.vision", "shared.matching", "shared.model_registry", "shared.serving", "shared.telemetry"}
        | {"functions.train.fit", "functions.train.embed", "functions.train.fitting"},
    ),
    (
        [f"functions/train/{module}.py" for module in ("embed", "fitting", "migration", "migration_work", "shadow")],
        CONTRACTS
        | {"shared.vision", "shared.matching", "shared.model_registry", "shared.serving", "shared.migration"}
        | {"functions.train"},
    ),
    (["functions/train/hygiene.py", "functions/train/likeness.py"], BASE | {"functions.train.likeness"}),
    (
        [f"functions/group/{part}.py" for part in ("service", "runs", "naming", "store", "linking", "state")],
        CONTRACTS | {"shared.matching", "shared.telemetry", "functions.group", "functions.jobs"},
    ),
    (["functions/group/cluster.py"], BASE | {"shared.matching"}),
    (["functions/group/corrections.py"], BASE | {"functions.group.cluster"}),
    (["functions/jobs.py"], CONTRACTS),
    (
        ["functions/train/fit.py"],
        BASE | {"shared.matching", "sklearn", "joblib"} | {f"functions.train.{part}" for part in FIT},
    ),
    (
        [f"functions/train/{part}.py" for part in FIT],
        BASE | {"shared.matching", "scipy"} | {f"functions.train.{part}" for part in FIT},
    ),
]


@pytest.mark.parametrize(("paths", "allowed"), RULES, ids=[rule[0][0] for rule in RULES])
def test_a_part_imports_only_what_its_place_allows(paths: list[str], allowed: set[str]) -> None:
    files = [f for path in paths for f in ([ROOT / path] if path.endswith(".py") else modules(path)) if f.exists()]
    assert files, "the rule is about nothing"
    assert {name_of(path): found for path in files if (found := beyond(path, allowed))} == {}


def test_shared_knows_nobody_who_uses_it() -> None:
    forbidden = OURS - {"shared"}
    found = {
        name_of(p): names
        for p in modules("shared")
        if (names := {n for n in imports(p) if n.split(".")[0] in forbidden})
    }
    assert found == {}


def test_the_gateway_needs_shared_alone() -> None:
    """It runs on site, where neither the functions nor the embedded host are installed."""
    forbidden = OURS - {"shared", "edge_uploader"}
    found = {
        name_of(p): names
        for p in modules("edge_uploader")
        if (names := {n for n in imports(p) if n.split(".")[0] in forbidden | {"sklearn", "azure", "fastapi"}})
    }
    assert found == {}


def test_functions_know_neither_gateway_nor_host() -> None:
    found = {
        name_of(p): names
        for p in modules("functions")
        if (names := {n for n in imports(p) if n.split(".")[0] in {"edge_uploader", "local", "bench", "tests"}})
    }
    assert found == {}


def test_only_the_composition_root_chooses_adapters() -> None:
    """Programs of one machine (`local`) may open its store; nobody else names an adapter."""
    found = {
        name_of(path)
        for path in modules("shared", "functions", "edge_uploader")
        if any(name.startswith("shared.adapters") for name in imports(path))
        and not name_of(path).startswith("shared/adapters/")
    }
    assert found == {"shared/bootstrap.py"}


def test_services_do_not_read_the_environment() -> None:
    for path in [*(ROOT / "functions").rglob("service.py"), *modules("shared/matching", "shared/vision")]:
        assert not {n for n in imports(path) if n.startswith(("os.environ", "os.getenv"))}, name_of(path)
        assert not re.search(r"os\.environ|getenv", path.read_text(encoding="utf-8")), name_of(path)


def test_nothing_unpickles() -> None:
    """A bundle from the store must not be able to run code."""
    for path in modules(*PRODUCTION):
        assert not {n for n in imports(path) if n.split(".")[0] in {"pickle", "marshal", "shelve", "dill"}}, name_of(
            path
        )
        source = path.read_text(encoding="utf-8")
        assert "joblib.load" not in source and "allow_pickle=True" not in source, name_of(path)


def test_modules_are_short() -> None:
    long = {
        name_of(p) for p in modules(*PRODUCTION) if len(p.read_text(encoding="utf-8").splitlines()) > MAX_MODULE_LINES
    }
    assert long == LONG_MODULES, "shorten it, or take it off the list"


def test_functions_are_short() -> None:
    long = {
        (name_of(path), node.name)
        for path in modules(*PRODUCTION)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    }
    assert long == LONG_FUNCTIONS, "shorten it, or take it off the list"


HEAVY = {"onnxruntime", "cv2", "faiss", "sklearn", "fastapi", "scipy", "PIL", "azure.cosmos", "azure.storage"}
HEAVY |= {"opentelemetry.sdk", "azure.monitor", "prometheus_client"}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("function_app", HEAVY),
        ("shared.domain, shared.ports, shared.errors, shared.messages, shared.settings", HEAVY | {"azure"}),
        ("shared.bootstrap, functions.services", HEAVY | {"azure"}),
    ],
)
def test_a_cold_start_loads_nothing_heavy(module: str, heavy: set[str]) -> None:
    """The platform gives a worker ten seconds to import the app."""
    program = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert loaded & heavy == set()


TELL_TALES = [
    r"(?<![\w.$}/-])/" + "work" + r"/\w",
    r"(?<![\w.$}/-])/" + "root" + r"/\w",
    r"bash" + "_jobs",
    "pypi" + r"\.org",
    "python" + "hosted",
    "registry" + r"\.npmjs",
    "artifact" + "ory",
]
"""Put together here so that this file does not find itself."""


def test_no_file_names_a_registry_or_a_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    pattern = re.compile("|".join(TELL_TALES), re.IGNORECASE)
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix not in {".png", ".jpg", ".onnx", ".mp4"}:
            text = path.read_text(encoding="utf-8", errors="replace")
            if match := pattern.search(text):
                found[name] = match[0]
    assert found == {}


def test_no_photograph_or_weight_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    suffixes = {".jpg", ".jpeg", ".png", ".onnx", ".pb", ".npz", ".mp4", ".webp"}
    assert [n for n in listed.stdout.splitlines() if Path(n).suffix.lower() in suffixes] == []
