"""What the gateway sends, and who is recognised from it, beside every face of every frame: `make bench-edge [LFW=DIR]`.

Scenes of known people (bench/scene) go through the gateway as shipped, once under each policy, into Azurite by the real
SDK and through a proxy that counts; what lies in the store then is recognised by the service's own code, with a model
that the product's training fit to the enrolled people's photographs. Writes build/bench/edge.json and edge.png.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.progress import track

from bench.edge_names import Names, enrolled
from bench.edge_plot import draw
from bench.edge_policies import POLICIES, PolicyRun, run_policy, ultra_light_cache
from bench.edge_visits import SentCrop, at_as_many_false_names, judge, naming_figures, sending_figures
from bench.processes import end_with_parent
from bench.report import OUTPUT, console, print_figures, write_report
from bench.report import run as run_bench
from bench.scene.__main__ import progress
from bench.scene.people import Portraits, mtcnn_locator
from bench.scene.plan import DENSITIES, SceneOptions, density_class
from bench.scene.scene import Scene, composed
from shared.errors import ModelUnavailable

SCENES = Path("build/scenes")
PACKS = ("facenet", "sface")
NAMED_POLICIES = ("every_frame", "best_shot")
"""The seed's crops are weighed alone: who is in them would be asked of the same faces again."""
TIMES_FEWER_BYTES = 12.0
RECALL_LOSS = 0.01
_FEWEST_APART = 10
"""Visits that one policy alone recognises: with fewer, what chance can do cannot be told."""
REDUCTIONS = {"medium": 250.0, "high": 100.0, "very_high": 50.0}
CLIPS = ("street_crowd_1080p.mp4", "hamilton_clip.mp4")


def sent(run: PolicyRun) -> list[SentCrop]:
    """A run's crops as `edge_visits` takes them."""
    return [SentCrop(crop.frame, crop.candidate.frame_box, crop.candidate.track) for crop in run.crops]


def scene_figures(scene: Scene, runs: dict[str, PolicyRun]) -> dict[str, Any]:
    """Bytes, rates and what was sent of each visit, for each policy; names come later."""
    truth, minutes = scene.truth(), float(scene.about["minutes"])
    every = runs.get("every_frame")
    rate = round(len(every.crops) / minutes, 1) if every else None
    policies = {}
    for policy, run in runs.items():
        policies[policy] = run.figures(minutes * 60) | {
            "faces_per_minute": rate,
            "density_class": density_class(rate) if rate is not None else None,
            **sending_figures(judge(truth, sent(run), None)),
            "packs": {},
        }
    return {
        "density": scene.about["density"],
        "fixtures": scene.about["fixtures"],
        "minutes": minutes,
        "seed": scene.about["seed"],
        "policies": policies,
    }


def add_names(figures: dict[str, Any], scene: Scene, runs: dict[str, PolicyRun], names: Names, pack: str) -> None:
    """Recognises the crops of every policy and puts the figures under `packs`."""
    truth = scene.truth()
    for policy in NAMED_POLICIES:
        if (run := runs.get(policy)) is not None:
            began = time.monotonic()
            answers = names.of(run.crops, f"{scene.name}, {policy}")
            texts = [answer.text for answer in answers]
            found = naming_figures(judge(truth, sent(run), texts), texts)
            if policy == "best_shot" and "every_frame" in runs:
                most = figures["policies"]["every_frame"]["packs"][pack]["false_name_visits"]
                found["at_as_many_false_names"] = at_as_many_false_names(truth, sent(run), answers, most)
            found["seconds"] = round(time.monotonic() - began, 1)
            console.print(
                f"{scene.name}: {policy}: {len(answers):,} crops looked at with {pack} in {found['seconds']} s"
            )
            entry = figures["policies"][policy]
            entry["packs"][pack] = found
            entry.setdefault("identified_people", found["identified_people"])


def compare(figures: dict[str, Any]) -> dict[str, Any] | None:
    """Best shots beside every frame, and whether the aims are met; None without both."""
    policies = figures["policies"]
    if not {"every_frame", "best_shot"} <= policies.keys():
        return None
    every, best = policies["every_frame"], policies["best_shot"]
    times = round(every["network_bytes"] / max(best["network_bytes"], 1), 2)
    goal = REDUCTIONS.get(figures["density"])
    result: dict[str, Any] = {
        "times_fewer_network_bytes": times,
        "met": {"network_bytes": times >= TIMES_FEWER_BYTES},
        "packs": {},
    }
    if goal is not None and not figures["fixtures"]:
        result["met"]["reduction"] = best["reduction_vs_4mbps"] >= goal
    if "seed" in policies:
        result["times_fewer_than_seed"] = round(policies["seed"]["network_bytes"] / max(best["network_bytes"], 1), 2)
    for pack in best["packs"]:
        ours, theirs = best["packs"][pack], every["packs"][pack]
        difference = round(ours["visit_recall"] - theirs["visit_recall"], 4)
        fewer = ours["false_name_visits"] - theirs["false_name_visits"]
        equal = round(ours["at_as_many_false_names"]["visit_recall"] - theirs["visit_recall"], 4)
        result["packs"][pack] = {
            "visit_recall_difference": difference,
            "recognised_alone": _alone(ours["recognised"], theirs["recognised"]),
            "misnamed_alone": _alone(ours["misnamed"], theirs["misnamed"]),
            "false_name_visits_difference": fewer,
            "visit_recall_difference_at_as_many_false_names": equal,
        }
        result["met"][f"visit_recall_{pack}_at_as_many_false_names"] = equal >= -RECALL_LOSS
        result["met"][f"visit_recall_{pack}"] = difference >= -RECALL_LOSS
        result["met"][f"false_names_{pack}"] = fewer <= 0
    return result


def _alone(best_shot: dict[int, str], every_frame: dict[int, str]) -> dict[str, dict[str, int]]:
    """Visits (with their person) that one policy alone has, for each person."""
    return {
        "best_shot": dict(Counter(best_shot[visit] for visit in best_shot.keys() - every_frame)),
        "every_frame": dict(Counter(every_frame[visit] for visit in every_frame.keys() - best_shot)),
    }


def pooled(scenes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Visits of all scenes without fixtures, for each pack and policy: in one medium scene a visit is over a point.

    Scenes with fixtures ask whether the choice holds back, and are reported apart.
    """
    result: dict[str, Any] = {}
    counts = ("enrolled_visits", "recognised_visits", "false_name_visits")
    equally = "recognised_at_as_many_false_names"
    for scene in _without_fixtures(scenes):
        for policy, figures in scene["policies"].items():
            for pack, found in figures["packs"].items():
                sums = result.setdefault(pack, {}).setdefault(policy, dict.fromkeys(counts, 0))
                for count in counts:
                    sums[count] += found[count]
                if (equal := found.get("at_as_many_false_names")) is not None:
                    sums[equally] = sums.get(equally, 0) + equal["recognised_visits"]
    for policies in result.values():
        for sums in policies.values():
            enrolled_visits = max(sums["enrolled_visits"], 1)
            sums["visit_recall"] = round(sums["recognised_visits"] / enrolled_visits, 4)
            if equally in sums:
                sums["visit_recall_at_as_many_false_names"] = round(sums[equally] / enrolled_visits, 4)
    return result


_DIFFERENCES: dict[str, tuple[str, str, Callable[[float], bool]]] = {
    "visit_recall": ("visits_by_person", "recognised_alone", lambda difference: difference >= -RECALL_LOSS),
    "false_names": ("all_visits_by_person", "misnamed_alone", lambda difference: difference <= 0),
}
"""What is compared: the visits that are asked of, those that one policy alone has, and when the aim is met."""


def differences(scenes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """For each pack, by how much best shots differ from every frame, of all scenes without fixtures.

    In the share of enrolled people's visits that are recognised, and in that of all visits with a false name.
    The same visits are named or not under both, so that chance is in those alone that differ; and a person comes
    several times, alike each time. The interval is 1.96 standard errors of a ratio to each side, people
    being what is drawn (Cochran, Sampling Techniques, 1977, ch. 9A); None where too few visits differ to tell.
    """
    compared = [scene for scene in _without_fixtures(scenes) if scene["compared"]]
    packs = dict.fromkeys(pack for scene in compared for pack in scene["compared"]["packs"])
    return {pack: {what: _difference_in(what, pack, compared) for what in _DIFFERENCES} for pack in packs}


def _difference_in(what: str, pack: str, scenes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    asked, apart, is_met = _DIFFERENCES[what]
    visits: Counter[str] = Counter()
    alone: dict[str, Counter[str]] = {policy: Counter() for policy in NAMED_POLICIES}
    for scene in scenes:
        visits.update(scene["policies"]["every_frame"]["packs"][pack][asked])
        for policy, people in scene["compared"]["packs"][pack][apart].items():
            alone[policy].update(people)
    return _difference(visits, is_met, **alone)


def _difference(
    visits: Counter[str], is_met: Callable[[float], bool], best_shot: Counter[str], every_frame: Counter[str]
) -> dict[str, Any]:
    """All by person."""
    count, people = visits.total(), len(visits)
    difference = (best_shot.total() - every_frame.total()) / max(count, 1)
    apart = sum((best_shot[one] - every_frame[one] - visits[one] * difference) ** 2 for one in visits)
    interval = None
    if best_shot.total() + every_frame.total() >= _FEWEST_APART and people > 1:
        error = 1.96 * math.sqrt(apart * people / (people - 1)) / count
        interval = [round(difference - error, 4), round(difference + error, 4)]
    return {
        "visits": count,
        "people": people,
        "best_shot_alone": best_shot.total(),
        "every_frame_alone": every_frame.total(),
        "difference": round(difference, 4),
        "interval_95": interval,
        "met": is_met(difference),
    }


def _without_fixtures(scenes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [scene for scene in scenes if not scene["fixtures"]]


def print_scene(figures: dict[str, Any]) -> None:
    """A table for one scene."""
    rows = []
    for policy, f in figures["policies"].items():
        named = [
            f"{p['visit_recall']:.1%} of {p['enrolled_visits']}, {p['false_name_visits']} false"
            for p in f["packs"].values()
        ]
        rows.append(
            (
                policy,
                f"{f['crops']:,}",
                f"{f['bytes'] / 1e6:.2f} MB",
                f"{f['network_bytes'] / 1e6:.2f} MB",
                f"{f['reduction_vs_4mbps']:,.0f}×",
                f"{f['crops_per_visit']}, {f['tracks_per_visit']}",
                str(f["frames_per_s"]),
                "; ".join(named),
            )
        )
    first = next(iter(figures["policies"].values()))
    title = f"{figures['density']}{' with fixtures' if figures['fixtures'] else ''}, {figures['minutes']:g} min, "
    title += f"seed {figures['seed']}: "
    title += f"{first['faces_per_minute']} faces a minute ({first['density_class']}), {first['visits']} visits"
    columns = ("policy", "crops", "images", "network", "vs 4 Mbps", "crops, tracks a visit", "frames/s", "visit recall")
    print_figures(title, rows, columns)
    if figures["compared"]:
        met = ", ".join(f"{name} {'✓' if good else '✗'}" for name, good in figures["compared"]["met"].items())
        console.print(f"{figures['compared']['times_fewer_network_bytes']}× fewer network bytes; {met}")


def clip_figures(video: Path, policies: Sequence[str], weights: Path | None) -> dict[str, Any]:
    """Bytes, tracks and crops of real footage, with annotated pictures under build/bench."""
    import cv2

    capture = cv2.VideoCapture(str(video))
    seconds = capture.get(cv2.CAP_PROP_FRAME_COUNT) / max(capture.get(cv2.CAP_PROP_FPS), 1.0)
    capture.release()
    found = {}
    for policy in policies:
        folder = OUTPUT / "edge-clips" / f"{video.stem}-{policy}"
        found[policy] = run_policy(policy, video, weights, annotate=folder).figures(seconds)
    rows = [
        (policy, str(f["tracks"]), str(f["crops"]), f"{f['network_bytes']:,}", f"{f['reduction_vs_4mbps']:.0f}×")
        for policy, f in found.items()
    ]
    print_figures(f"{video.name}, {seconds:.1f} s", rows, ("policy", "tracks", "crops", "network bytes", "vs 4 Mbps"))
    return {"seconds": round(seconds, 2), "policies": found}


def compose_all(arguments: argparse.Namespace, seed: int) -> list[Scene]:
    """A seed's scenes; those of an earlier run are taken again."""
    portraits = Portraits(mtcnn_locator())
    wanted = [SceneOptions(density, arguments.minutes, seed) for density in arguments.densities]
    if arguments.fixtures:
        wanted.append(SceneOptions("medium", arguments.minutes / 2, seed, fixtures=True))
    scenes = []
    for options in wanted:
        what = f"composing {options.density}"
        scenes.append(composed(options, arguments.lfw, SCENES, portraits, progress(what)))
    return scenes


def run_policies(scenes: Sequence[Scene], arguments: argparse.Namespace) -> dict[str, dict[str, PolicyRun]]:
    """Every scene under every policy; with `--jobs`, several at a time, each in a process of its own."""
    tasks = [
        (scene, policy)
        for scene in scenes
        for policy in arguments.policies
        # The poster and the guard ask whether the choice holds back; the seed never does.
        if policy in NAMED_POLICIES or not scene.about["fixtures"]
    ]
    runs: dict[str, dict[str, PolicyRun]] = {scene.name: {} for scene in scenes}
    if arguments.jobs == 1:
        for scene, policy in tasks:
            runs[scene.name][policy] = run_policy(policy, scene.video, arguments.ultra_light)
        return runs
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn"), initializer=_begin_worker) as pool:
        videos, policies = [scene.video for scene, _ in tasks], [policy for _, policy in tasks]
        done = pool.map(run_policy, policies, videos, [arguments.ultra_light] * len(tasks))
        what = f"gateways, {arguments.jobs} at a time"
        bar = track(done, description=what, total=len(tasks), console=console, transient=True)
        for (scene, policy), run in zip(tasks, bar, strict=True):
            runs[scene.name][policy] = run
    return runs


def _begin_worker() -> None:
    """Of a process beside others: one terminal has room for one bar."""
    console.quiet = True
    end_with_parent()


def run_scenes(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """A seed's scenes under every policy; then, one pack after another, the names."""
    scenes = compose_all(arguments, seed)
    runs = run_policies(scenes, arguments)
    figures = {scene.name: scene_figures(scene, runs[scene.name]) for scene in scenes}
    for pack in arguments.packs if scenes else ():
        with enrolled(pack, scenes[0].gallery(arguments.lfw)) as folder:
            names = Names(folder, pack)
            try:
                for scene in scenes:
                    add_names(figures[scene.name], scene, runs[scene.name], names, pack)
            finally:
                names.close()
    for each in figures.values():
        each["compared"] = compare(each)
        print_scene(each)
    return {f"{name}, seed {seed}" if len(arguments.seeds) > 1 else name: each for name, each in figures.items()}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lfw", type=Path, required=True, help="folder of people, images/{person}/*.jpg")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of each scene")
    parser.add_argument("--densities", nargs="*", default=["medium", "high", "very_high"], choices=list(DENSITIES))
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--packs", nargs="*", default=list(PACKS), choices=PACKS)
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[1],
        help="of the scenes, and of the photographs that are enrolled; each adds all scenes again",
    )
    parser.add_argument(
        "--fixtures", action="store_true", help="besides, a medium scene of half the length with a poster and a guard"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        choices=range(1, 9),
        help="gateways at a time; frames_per_s is then of each beside others",
    )
    parser.add_argument("--clips", type=Path, help="folder with real footage: " + ", ".join(CLIPS))
    parser.add_argument("--ultra-light", type=Path, help="the seed's detector, where the model cache has none")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if "seed" in arguments.policies:
        try:
            ultra_light_cache(arguments.ultra_light)
        except ModelUnavailable as error:
            console.print(f"without the policy seed: {error}")
            arguments.policies = [policy for policy in arguments.policies if policy != "seed"]
    began = time.monotonic()
    figures: dict[str, Any] = {"jobs": arguments.jobs, "scenes": {}}
    for seed in arguments.seeds:
        figures["scenes"] |= run_scenes(arguments, seed)
    if arguments.clips is not None:
        clips = [arguments.clips / name for name in CLIPS if (arguments.clips / name).is_file()]
        policies = [policy for policy in arguments.policies if policy in NAMED_POLICIES]
        figures["clips"] = {clip.name: clip_figures(clip, policies, arguments.ultra_light) for clip in clips}
    scenes = list(figures["scenes"].values())
    figures["all_scenes"], figures["differences"] = pooled(scenes), differences(scenes)
    for pack, policies in figures["all_scenes"].items():
        told = (f"{p} {f['visit_recall']:.1%}, {f['false_name_visits']} falsely" for p, f in policies.items())
        console.print(f"scenes without fixtures, {pack}: visits recognised: {'; '.join(told)}")
    for pack, found in figures["differences"].items():
        for what, of in found.items():
            bounds = of["interval_95"]
            chance = f" ({100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f})" if bounds else ""
            console.print(
                f"{pack}, {what.replace('_', ' ')}: of {of['visits']} visits of {of['people']} people best shots alone "
                f"have {of['best_shot_alone']}, every frame alone {of['every_frame_alone']}: "
                f"{100 * of['difference']:+.1f} points{chance} {'✓' if of['met'] else '✗'}"
            )
    figures["seconds"] = round(time.monotonic() - began)
    write_report("edge", figures)
    console.print(f"plot: {draw(figures, OUTPUT / 'edge.png')}")


if __name__ == "__main__":
    run_bench(main)
