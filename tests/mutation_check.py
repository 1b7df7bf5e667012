"""Do the tests notice? Breaks one line at a time, in a copy of the tree, and names the test that fails.

    python tests/mutation_check.py [WORD ...]

With words, only the mutations whose name holds one of them. Ends with 1 when a mutation survives, with 2 when the
tests fail without any or a line to break is no longer there. Not collected by pytest.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREES = ("shared", "functions", "edge_uploader", "local", "bench", "tests", "docs")
FILES = ("function_app.py", "host.json", "pyproject.toml", "requirements.txt", "README.md")
TIMEOUT_S = 600


@dataclass(frozen=True)
class Mutation:
    """One line, broken.

    Attributes:
        old: occurs once in the file.
        tests: that should notice.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "pixel limit is not checked before decoding",
        "shared/vision/decode.py",
        "if width * height > limits.max_pixels:",
        "if False:",
        ("tests/unit/vision/test_decode.py",),
    ),
    Mutation(
        "MTCNN keeps every box of the last network",
        "shared/vision/mtcnn.py",
        'kept = nms(final + _INCLUSIVE, scores[sure], 0.7, "smaller")',
        'kept = nms(final + _INCLUSIVE, scores[sure], 1.7, "smaller")',
        ("tests/integration/vision/test_detect.py",),
    ),
    Mutation(
        "embedder is fed pixels that are not centred",
        "shared/vision/embedders.py",
        "pixels -= self._table.mean",
        "pixels -= 0",
        ("tests/integration/functions/test_preprocessing.py",),
    ),
    Mutation(
        "similarity at the threshold is not enough",
        "shared/matching/model.py",
        "if similarity >= threshold else UNKNOWN",
        "if similarity > threshold else UNKNOWN",
        ("tests/unit/matching/test_model.py",),
    ),
    Mutation(
        "a camera's own threshold is passed over",
        "shared/matching/model.py",
        "self.cameras.get(camera, self.threshold)",
        "self.threshold",
        ("tests/unit/functions/test_recognize_service.py",),
    ),
    Mutation(
        "a close call is not looked at again",
        "functions/recognize/service.py",
        "if rejected is None and identity.close:",
        "if False:",
        ("tests/unit/functions/test_recognize_service.py",),
    ),
    Mutation(
        "a rejected face is looked at again",
        "functions/recognize/service.py",
        "if rejected is None and identity.close:",
        "if identity.close:",
        ("tests/unit/functions/test_recognize_service.py",),
    ),
    Mutation(
        "a template is of the plain crop alone",
        "shared/vision/embedders.py",
        "_normalised(both[0] + both[1])",
        "_normalised(both[0] + both[0])",
        ("tests/integration/vision/test_embed.py",),
    ),
    Mutation(
        "a photograph that is all but another adds a template",
        "functions/enroll/service.py",
        "similarity >= packs[0].table.duplicate_similarity:",
        "similarity > 2:",
        ("tests/unit/functions/test_enroll_service.py",),
    ),
    Mutation(
        "a detection is replaced, not created if absent",
        "shared/adapters/local/detections.py",
        "INSERT OR IGNORE INTO detections",
        "INSERT OR REPLACE INTO detections",
        ("tests/contract/test_detections.py",),
    ),
    Mutation(
        "the pointer moves without its ETag",
        "shared/model_registry.py",
        "if_match=etag,",
        "if_match=None,",
        ("tests/unit/matching/test_registry.py",),
    ),
    Mutation(
        "a probe of another embedder is compared",
        "shared/identity.py",
        "if self.embedder_id != embedder_id:",
        "if False:",
        ("tests/unit/matching/test_model.py",),
    ),
    Mutation(
        "a training changes the embedder",
        "shared/model_registry.py",
        "if live is not None and self._is_of_another_embedder(live, manifest):",
        "if False:",
        ("tests/unit/matching/test_registry.py",),
    ),
    Mutation(
        "a switch does not look whether an erasure took the model",
        "shared/model_registry.py",
        "if not self._is_stored(model_id):  # an erasure took it for one that was not live",
        "if False:",
        ("tests/unit/matching/test_registry.py",),
    ),
    Mutation(
        "a cancelled migration deletes what answers",
        "functions/train/migration_work.py",
        'if migration.wish == "cancel" and rules == migration.target:',
        "if False:",
        ("tests/unit/functions/test_migration.py",),
    ),
    Mutation(
        "what a rollback leads to is pruned",
        "shared/model_registry.py",
        "kept |= {model_id for model_id in (migration.source_model, migration.target_model) if model_id}",
        "kept |= set()",
        ("tests/unit/functions/test_migration.py",),
    ),
    Mutation(
        "the spool lets go before the store has acknowledged",
        "edge_uploader/delivery/uploader.py",
        "fresh = attempts(self._put, entry)",
        "self._spool.done(entry); fresh = attempts(self._put, entry)",
        ("tests/unit/edge/test_uploader.py",),
    ),
    Mutation(
        "the tracker joins what is farthest apart",
        "edge_uploader/selection/tracker.py",
        "linear_sum_assignment(costs)",
        "linear_sum_assignment(-costs)",
        ("tests/unit/edge/test_tracker.py",),
    ),
    Mutation(
        "a message is tried once more than allowed",
        "local/host/ledger.py",
        "if self.failures >= work.limit:",
        "if self.failures > work.limit:",
        ("tests/unit/host/test_delivery.py", "tests/unit/host/test_serve.py"),
    ),
    Mutation(
        "a crop is not held against the hash in its metadata",
        "functions/recognize/service.py",
        "if content != candidate.sha256:",
        "if False:",
        ("tests/unit/functions/test_recognize_service.py",),
    ),
    Mutation(
        "a photograph is stored as it came, EXIF and all",
        "functions/enroll/service.py",
        "stored = encode_jpeg(kept)",
        "stored = data",
        ("tests/unit/functions/test_enroll_service.py",),
    ),
    Mutation(
        "whoever left during a training stays in the model",
        "functions/train/service.py",
        "if person_id not in still_here:",
        "if False:",
        ("tests/unit/functions/test_train_service.py",),
    ),
    Mutation(
        "a person's SVM row is taken for another's",
        "functions/train/svm.py",
        "positives = _own(order, starts, part)",
        "positives = _own(order, starts, part[::-1])",
        ("tests/unit/functions/test_svm.py",),
    ),
    Mutation(
        "vector search forgets the bias",
        "shared/adapters/azure/vectors.py",
        "np.append(probe, np.float32(1))",
        "np.append(probe, np.float32(0))",
        ("tests/unit/adapters/test_cosmos_vectors.py",),
    ),
    Mutation(
        "vector search answers with what the service rounded",
        "shared/adapters/azure/vectors.py",
        "best = np.lexsort((people, -found))[:count]",
        "best = np.arange(count)",
        ("tests/unit/adapters/test_cosmos_vectors.py",),
    ),
    Mutation(
        "vector search of half a set",
        "shared/adapters/azure/vectors.py",
        "if record is None or record.state != _WHOLE:\n            return None",
        "if record is None:\n            return None",
        ("tests/unit/adapters/test_cosmos_vectors.py",),
    ),
    Mutation(
        "vectors of an erased person stay in a set that is shared",
        "shared/adapters/azure/vectors.py",
        "rows = set.intersection(*(set(record.removed) for record in users))",
        "rows = set()",
        ("tests/unit/adapters/test_cosmos_vectors.py",),
    ),
    Mutation(
        "vectors of a shared set go with the first model",
        "shared/adapters/azure/vectors.py",
        "if record.set_id == set_id and record.state != _GONE]",
        "if record.model_id == set_id and record.state != _GONE]",
        ("tests/unit/adapters/test_cosmos_vectors.py",),
    ),
    Mutation(
        "vectors are written on after their model was erased",
        "shared/adapters/azure/vectors.py",
        "self._check_not_gone(model_id)\n            _each(write",
        "_each(write",
        ("tests/unit/adapters/test_cosmos_vectors.py",),
    ),
    Mutation(
        "vectors are swept by a list of models from before",
        "shared/adapters/azure/vectors.py",
        "        records = self._records()\n        known = set(stored())",
        "        known = set(stored())\n        records = self._records()",
        ("tests/unit/adapters/test_cosmos_vectors.py",),
    ),
    Mutation(
        "vectors stay when their model is deleted",
        "shared/model_registry.py",
        "        self.search.delete(model_id)\n",
        "        pass\n",
        ("tests/unit/adapters/test_cosmos_vectors.py",),
    ),
    Mutation(
        "vectors of a killed publication survive an erasure",
        "shared/model_registry.py",
        "        self.search.sweep(self.list_ids)\n        self.migrations",
        "        self.migrations",
        ("tests/unit/adapters/test_cosmos_vectors.py",),
    ),
)


def copy_tree(target: Path) -> None:
    """What the tests need of the checkout, as it stands on the disk."""
    for name in TREES:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy2(ROOT / name, target / name)


def run_tests(tree: Path, tests: tuple[str, ...]) -> tuple[bool, str]:
    """Whether they pass, and the first that does not."""
    options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-k", "not azure"]  # its emulators are not copied
    command = [sys.executable, "-B", "-m", "pytest", *options, *tests]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=TIMEOUT_S)
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return done.returncode == 0, failed[1] if failed else done.stdout[-200:] + done.stderr[-200:]


def check(mutation: Mutation, tree: Path) -> str | None:
    """The first test that notices, or None."""
    path = tree / mutation.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutation.old) != 1:
        raise LookupError(f"{mutation.file} holds {mutation.old!r} {source.count(mutation.old)} times, not once")
    try:
        path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
        passed, first = run_tests(tree, mutation.tests)
    finally:
        path.write_text(source, encoding="utf-8")
    return None if passed else first


def main(words: list[str]) -> int:
    chosen = [m for m in MUTATIONS if not words or any(word in m.name for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        copy_tree(tree)
        passed, first = run_tests(tree, tuple(sorted({test for m in chosen for test in m.tests})))
        if not passed:
            say(f"the tests fail without any mutation: {first}")
            return 2
        survivors = 0
        for mutation in chosen:
            began = time.monotonic()
            noticed = check(mutation, tree)
            survivors += noticed is None
            say(f"{mutation.name:<55} {noticed or 'SURVIVES'}  ({time.monotonic() - began:.0f} s)")
    say(f"{len(chosen) - survivors} of {len(chosen)} mutations noticed")
    return 1 if survivors else 0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
