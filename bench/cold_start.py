"""How long a cold process takes: to the imported app, and to the first recognised face. `make bench-cold-start`.

The platform gives a worker ten seconds to import the app. What cannot be avoided is fastapi and azure.functions, so the
app's import is measured beside theirs alone, in the same run, each in processes of their own, in turns. The first face
is asked for as the host would: the app imported, a photograph through its HTTP function, a trained model in the local
store.
Writes build/bench/cold_start.json.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from bench.report import print_figures, write_report
from bench.report import run as run_bench

ROUNDS = 5
MOST = 2.0
"""The app's import may take so many times what fastapi and azure.functions alone take."""

_MEASURED = """
import json, time
began = time.perf_counter()
{body}
print(json.dumps({{"seconds": time.perf_counter() - began}}))
"""
BASIS = _MEASURED.format(body="import fastapi, azure.functions")
APP = _MEASURED.format(body="import function_app")
PERSON = "eileen_collins"
_PHOTOGRAPH = """
from shared.settings import Settings
from shared.vision.assets import ModelCache

image = ModelCache(Settings().model_cache).path("demo_astronaut").read_bytes()
"""
PREPARE = _MEASURED.format(
    body=f"""
from functions.services import services
from shared.messages import TrainRequest
{_PHOTOGRAPH}
services().enroll().add_person("{PERSON}")
services().enroll().add_image("{PERSON}", image)
job = services().train_requests().request("fit")
services().train().run(TrainRequest(schema=1, job_id=job.job_id, kind="fit"))
"""
)
FIRST_FACE = _MEASURED.format(
    body=f"""
import asyncio
import azure.functions as func
import function_app
{_PHOTOGRAPH}
functions = {{function.get_function_name(): function for function in function_app.app.get_functions()}}
head = b'--b\\r\\nContent-Disposition: form-data; name="image"; filename="i.jpg"\\r\\n\\r\\n'
request = func.HttpRequest(
    "POST",
    "http://127.0.0.1/face-recognition/get-results",
    headers={{"content-type": "multipart/form-data; boundary=b", "host": "127.0.0.1"}},
    body=head + image + b"\\r\\n--b--\\r\\n",
)
answer = asyncio.run(functions["recognize_http"].get_user_function()(request, None))
(face,) = json.loads(answer.get_body())["faces"]
assert face["top_prediction"]["label"] == "{PERSON}", face
"""
)


def seconds(program: str, **settings: str) -> float:
    """How long a program takes by its own clock, in a process of its own; starting Python is not counted.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | settings, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"a cold process failed:\n{done.stderr}")
    taken: float = json.loads(done.stdout.splitlines()[-1])["seconds"]
    return taken


def imports(rounds: int = ROUNDS) -> dict[str, Any]:
    """Both imports, in turns, so that what else the machine does meets both. The quickest of each is compared."""
    seconds(BASIS), seconds(APP)  # files into the page cache, bytecode onto the disk
    pairs = [(seconds(BASIS), seconds(APP)) for _ in range(rounds)]
    basis, app = ([pair[i] for pair in pairs] for i in (0, 1))
    return {
        "rounds": rounds,
        "import_fastapi_and_azure_functions_s": round(min(basis), 3),
        "import_function_app_s": round(min(app), 3),
        "ratio": round(min(app) / min(basis), 2),
        "ratio_of_medians": round(statistics.median(app) / statistics.median(basis), 2),
        "most": MOST,
    }


def first_face(rounds: int = 3) -> float:
    """From a cold process to the answer with the first recognised face, in seconds: the median."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"FACERELAY_DATA_DIR": folder, "FACERELAY_AUTH": "false"}
        seconds(PREPARE, **settings)
        return round(statistics.median(seconds(FIRST_FACE, **settings) for _ in range(rounds)), 3)


def main() -> None:
    """Measures, prints and writes."""
    figures = imports() | {"first_face_s": first_face()}
    rows = [
        ("import fastapi, azure.functions", f"{figures['import_fastapi_and_azure_functions_s']:.3f}"),
        ("import function_app", f"{figures['import_function_app_s']:.3f}"),
        (f"ratio, at most {MOST:g}", f"{figures['ratio']:.2f}"),
        ("first recognised face", f"{figures['first_face_s']:.3f}"),
    ]
    print_figures("cold start, seconds", rows, ("from a cold process", "s"))
    write_report("cold_start", figures)
    if figures["ratio"] > MOST:
        raise SystemExit(f"error: importing the app takes {figures['ratio']} times what it may be measured by")


if __name__ == "__main__":
    run_bench(main)
