"""Checks the Bicep for insecure settings and misspelt properties; builds it where a Bicep compiler is on the path.

Run by `make check-infra`. checkov skips what its parser does not know and says so only in passing: that counts as a
failure here, as does a skipped policy without a reason beside it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra import schema

BICEP = Path(__file__).parent / "bicep"
REPORT = Path("build/infra/checkov.json")
NO_REASON = ("", "No comment provided")


def checkov() -> dict[str, Any]:
    """checkov's report over every file."""
    command = [sys.executable, "-m", "checkov.main", "-d", str(BICEP), "--framework", "bicep", "--skip-download"]
    done = subprocess.run([*command, "--output", "json"], capture_output=True, text=True, check=False)  # noqa: S603 - no input of others
    report: dict[str, Any] = json.loads(done.stdout)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2))
    return report


def complaints_about(report: dict[str, Any]) -> list[str]:
    """What is wrong, one line each."""
    results = report["results"]
    unread = [f"not parsed: {path}" for path in results["parsing_errors"]]
    failed = [f"{c['check_id']} {c['check_name']}: {c['resource']}" for c in results["failed_checks"]]
    bare = [c for c in results["skipped_checks"] if c["check_result"].get("suppress_comment", "") in NO_REASON]
    return unread + failed + [f"{c['check_id']} is skipped without a reason: {c['resource']}" for c in bare]


def compiled() -> list[str]:
    """What the Bicep compiler says of the two templates; nothing without a compiler."""
    bicep = shutil.which("bicep")
    if bicep is None:
        return []
    said = []
    for name in ("main.bicep", "eventgrid-subscription.bicep"):
        command = [bicep, "build", str(BICEP / name), "--stdout"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no input of others
        said += [line for line in done.stderr.splitlines() if line.strip()]
    return said


def main() -> int:
    """Exit status: 0 when there is nothing to complain about."""
    report = checkov()
    wrong = complaints_about(report) + schema.complaints() + compiled()
    summary = report["summary"]
    counts = ", ".join(f"{summary[name]} {name}" for name in ("passed", "failed", "skipped", "parsing_errors"))
    compiler = "built without a warning" if shutil.which("bicep") else "no bicep compiler on the path"
    verdict = "see above" if wrong else f"properties: {len(schema.MODELS)} types checked; {compiler}"
    sys.stdout.write("\n".join([*wrong, f"checkov: {counts}; {verdict}", ""]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
