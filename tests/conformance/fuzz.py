"""Requests made from the API's own description, sent to a served app with a token of each scope.

`python -m tests.conformance.fuzz [SECONDS]`. Fails on a 5xx, an answer that the description does not tell of, a request
without token that is served, and on no answer within `HANG_S`. What it found is in build/fuzz/.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from shared.access import Scope
from tests.conformance.served import Guarded, guarded, small_photograph

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "build" / "fuzz"
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
HANG_S = 30
# A run of its own and the last: it may revoke the token that it is done with.
REVOKE = "DELETE /api/v1/tokens/{token_id}"


def fuzz(seconds: float) -> dict[str, int]:
    """Fuzzes for about so long; the exit status of each run, 0 when nothing was found."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, guarded(Path(name)) as app:
        photograph = Path(name) / "photograph.jpg"
        photograph.write_bytes(small_photograph())
        found = {
            "admin": _run(app, Scope.ADMIN, photograph, 0.5 * seconds, "admin", "--exclude-name", REVOKE),
            "operator": _run(app, Scope.OPERATOR, photograph, 0.22 * seconds, "operator"),
            "device": _run(app, Scope.DEVICE, photograph, 0.22 * seconds, "device"),
            "revoke": _run(app, Scope.ADMIN, photograph, 0.06 * seconds, "revoke", "--include-name", REVOKE),
        }
        assert app.service.process.poll() is None, "the service ended"
    return found


def _run(app: Guarded, scope: Scope, photograph: Path, seconds: float, name: str, *selection: str) -> int:
    (header,) = app.headers(scope).items()
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)),
        *("run", f"{app.service.url}/openapi.json", "--header", ": ".join(header)),
        *("--max-time", str(max(1, round(seconds))), "--request-timeout", str(HANG_S)),
        *("--continue-on-failure", "--generation-database", "none", "--no-shrink", "--no-color", *selection),
    ]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.conformance.fuzz_hooks",
        "FUZZ_PHOTOGRAPH": str(photograph),
    }
    with (REPORTS / f"{name}.txt").open("w") as report:
        # There, since it leaves its cases where it is started.
        return subprocess.run(command, cwd=REPORTS, env=environment, stdout=report, stderr=subprocess.STDOUT).returncode


if __name__ == "__main__":
    statuses = fuzz(float(sys.argv[1]) if sys.argv[1:] else 300)
    for run, status in statuses.items():
        sys.stdout.write(f"{run}: {'nothing found' if status == 0 else f'see {REPORTS.relative_to(ROOT)}/{run}.txt'}\n")
    sys.exit(max(statuses.values()))
