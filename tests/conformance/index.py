"""`python -m tests.conformance.index FOLDER`: whether Microsoft's worker takes the app there, as JSON.

A process of its own, since the library knows one app for each process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.conformance.worker import RefusedError, Worker

if __name__ == "__main__":
    try:
        found: dict[str, Any] = {"functions": sorted(Worker(Path(sys.argv[1])).functions), "refused": None}
    except RefusedError as error:
        found = {"functions": [], "refused": str(error)}
    sys.stdout.write(json.dumps(found) + "\n")
