"""How facerelay runs ONNX networks: the threading and memory policy, in one place."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from shared.errors import IntegrityError


def open_session(
    path: Path, *, reuse_memory: bool = True, plan_memory: bool = True, threads: int = 1
) -> ort.InferenceSession:
    """A session for one network on the CPU. May be shared between threads.

    One thread inside each run, and none that spins: callers work on several images at a time, a thread each, and
    that scales better than splitting the small matrices of one image (47 faces a second for two callers with one
    thread each, 40 for one caller with two, on two cores).

    Args:
        reuse_memory: keep freed memory for the next run: faster by a third, and as much memory as the largest run of
            each caller took, and somewhat more where the input changes from run to run.
        plan_memory: lay that memory out once for each shape of the input. For networks of a fixed input; one whose
            input changes would keep a block for every shape it has ever seen.
        threads: inside one run; more than 1 only where a process works on one image at a time.

    Raises:
        IntegrityError: the file is no network that the runtime can load.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = reuse_memory
    options.enable_mem_pattern = reuse_memory and plan_memory
    options.log_severity_level = 3  # warnings are about graphs that we cannot change
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 (the runtime's errors have no common base but this)
        raise IntegrityError(f"{path.name} is no network that onnxruntime can load") from error
