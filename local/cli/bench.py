"""`facerelay bench NAME`: the benchmarks of `bench/`, which write their reports to build/bench/."""

from __future__ import annotations

import runpy
import sys
from enum import StrEnum
from typing import Annotated

import typer


class Benchmark(StrEnum):
    """What can be measured."""

    RECOGNITION = "recognition"
    IMPOSTORS = "impostors"
    QUALITY = "quality"
    HYGIENE = "hygiene"
    GROUPING = "grouping"
    SCALE = "scale"
    THROUGHPUT = "throughput"
    RELIABILITY = "reliability"
    COLD_START = "cold_start"
    STRANGERS = "strangers"


def bench(context: typer.Context, name: Annotated[Benchmark, typer.Argument(help="What to measure.")]) -> None:
    """Measure accuracy, throughput or reliability; options after the name are the benchmark's own (try --help)."""
    sys.argv = [f"bench.{name}", *context.args]
    runpy.run_module(f"bench.{name}", run_name="__main__")
