"""The comparison from the data to the report; cut off at any point, the same call goes on."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch

from course_lib import __version__
from course_lib.datasets.coco import CocoDetection, open_split
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.engine import checkpoint
from course_lib.engine.compare.detectron2 import require_detectron2, train_detectron2
from course_lib.engine.compare.disagreement import disagreements
from course_lib.engine.compare.display import Display
from course_lib.engine.compare.judge import judge_run
from course_lib.engine.compare.memory import peak_of_run
from course_lib.engine.compare.plan import Job, Plan, claim, family_of, is_theirs, run_folder, title
from course_lib.engine.compare.report import render_comparison
from course_lib.engine.compare.result import to_csv, verdicts
from course_lib.engine.compare.runs import open_run
from course_lib.engine.compare.speed import COUNTED, gigaflops, latencies
from course_lib.engine.run import train_run
from course_lib.engine.tour import machine_facts
from course_lib.engine.train import TrainingLoop
from course_lib.machine import cores_allowed

JUDGED, MEMORY, SPEED = "judged.json", "memory.json", "speed.json"
JUDGE_SECONDS, MEMORY_SECONDS, SPEED_SECONDS, REPORT_SECONDS = 5.0, 4.0, 0.5, 4.0  # about, on two cores
TIMED = 12  # images that each model is timed on, a turn
SHOWN = 6  # images of disagreement


def run_comparison(
    out: Path,
    plan: Plan,
    *,
    images: int = 4000,
    command: str = "course compare",
    progress: bool = True,
) -> dict:
    """Train every model with every seed, judge and time them, and write report.html, report.json and report.csv.

    Args:
        out: the folder for data, runs and report.
        plan: what to compare; with an empty `data` a Town of seed 0 is made in `out`.
        images: training images of that Town; an eighth as many to judge on.
        command: how it was called, for the report.
        progress: show a bar.

    Returns:
        what `report.json` holds.

    Raises:
        ValueError: if `out` holds another comparison, the data is not what it should be, or Detectron2 is not there.
        OSError: if `out` cannot be written.
        KeyboardInterrupt: after Ctrl-C; nothing is lost.
    """
    if any(map(is_theirs, plan.models)):
        require_detectron2()
    out = Path(out)
    data = Path(plan.data) if plan.data else out / "town"
    if not plan.data:
        make_town(data, train=images, val=images // 8, config=TownConfig(), seed=0, progress=progress)
    train_data = open_split(data, "train")
    val_data = open_split(data, "val", label_map=train_data.label_map)
    plan = replace(plan, train=len(train_data), val=len(val_data))
    claim(out, plan)
    torch.set_num_threads(plan.threads)
    display = Display(*_work(out, plan), shown=progress)
    try:
        for job in plan.jobs():
            _train(out, plan, job, train_data, val_data, display)
            _judge(out, plan, job, val_data, display)
        memory = {model: _memory(out, data, plan, model, display) for model in plan.models}
        speed = _speed(out, plan, val_data, display)
        display.stage("report")
        result = gather(out, plan, memory, speed, val_data, command)
        _write_report(out, result, val_data)
        display.finish(REPORT_SECONDS)
        display.stage("done")
    finally:
        display.close()
    return result


def make_plan(*, threads: int | None = None, data: Path | None = None, **settings) -> Plan:
    """A plan from what the command line gives; the numbers of images are filled in when the data is opened."""
    threads = cores_allowed() if threads is None else threads
    return Plan(threads=threads, data="" if data is None else str(Path(data).resolve()), train=0, val=0, **settings)


def _work(out: Path, plan: Plan) -> tuple[float, float]:
    """Seconds that everything takes, about, and of these the seconds of what lies there finished."""
    total, done = REPORT_SECONDS + SPEED_SECONDS * len(plan.jobs()), 0.0
    if _timed(out, plan) is not None:
        done += SPEED_SECONDS * len(plan.jobs())
    for job in plan.jobs():
        total += plan.expected_seconds() + JUDGE_SECONDS
        if (run_folder(out, job) / checkpoint.WEIGHTS).exists():
            done += plan.expected_seconds()
        if (run_folder(out, job) / JUDGED).exists():
            done += JUDGE_SECONDS
    for model in plan.models:
        total += MEMORY_SECONDS
        if _memory_file(out, plan, model).exists():
            done += MEMORY_SECONDS
    return total, done


def _train(
    out: Path, plan: Plan, job: Job, train_data: CocoDetection, val_data: CocoDetection, display: Display
) -> None:
    """Train one model unless it is trained; go on with a training that was cut off."""
    run = run_folder(out, job)
    if (run / checkpoint.WEIGHTS).exists():
        return
    display.stage(f"training {job.title}")
    expected = plan.expected_seconds()

    def watch(loop: TrainingLoop, loss: float) -> None:
        figures = {"loss": f"{loss:.3f}"}
        if loop.last_ap is not None:
            figures["AP"] = f"{loop.last_ap:.3f}"
        display.within(expected * min(1.0, loop.progress_made()), **figures)

    recipe = plan.recipe(job.seed)
    common = {"train_data": train_data, "val_data": val_data, "out": run, "watch": watch}
    if is_theirs(job.model):
        train_detectron2(family_of(job.model), recipe, **common)
    else:
        train_run(plan.preset(job.model), recipe, **common, resume=True, device="cpu", progress=False)
    display.finish(expected)


def _judge(out: Path, plan: Plan, job: Job, val_data: CocoDetection, display: Display) -> None:
    path = run_folder(out, job) / JUDGED
    if path.exists():
        return
    display.stage(f"judging {job.title}")
    judged = judge_run(run_folder(out, job), val_data)
    checkpoint.write_text(path, json.dumps(judged))
    display.say(f"{job.title}: AP {judged['summary']['AP']:.3f}")
    display.finish(JUDGE_SECONDS)


def _memory_file(out: Path, plan: Plan, model: str) -> Path:
    return run_folder(out, Job(model, plan.seeds[0])) / MEMORY


def _memory(out: Path, data: Path, plan: Plan, model: str, display: Display) -> dict:
    """Peak memory of a model, measured on its first seed's run."""
    path = _memory_file(out, plan, model)
    if not path.exists():
        display.stage(f"memory of {title(model)}")
        batch = plan.recipe(0).batch_size
        found = peak_of_run(path.parent, data, batch=batch, threads=plan.threads)
        checkpoint.write_text(path, json.dumps(found))
        display.finish(MEMORY_SECONDS)
    return json.loads(path.read_text(encoding="utf-8"))


def _speed(out: Path, plan: Plan, val_data: CocoDetection, display: Display) -> dict[str, dict]:
    """Latency and arithmetic of every run, all in one sitting: only then do their times compare."""
    if (found := _timed(out, plan)) is not None:
        return found
    display.stage("timing all models in turns")
    models = {job.name: open_run(run_folder(out, job))[0] for job in plan.jobs()}
    images = [torch.Tensor(val_data[i][0].as_subclass(torch.Tensor)) for i in range(min(TIMED, len(val_data)))]
    found = latencies(models, images)
    for name, model in models.items():
        found[name] = {"latency": found[name], "gflops": round(gigaflops(model, images[:COUNTED]), 3)}
    checkpoint.write_text(out / SPEED, json.dumps(found, indent=1))
    display.finish(SPEED_SECONDS * len(models))
    return found


def _timed(out: Path, plan: Plan) -> dict[str, dict] | None:
    """What was measured of every run's speed; None if some run was not there yet."""
    path = out / SPEED
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found if {job.name for job in plan.jobs()} <= set(found) else None


def gather(
    out: Path, plan: Plan, memory: dict[str, dict], speed: dict[str, dict], val_data: CocoDetection, command: str
) -> dict:
    """The result of a comparison: settings, every run's figures, the models', verdicts in words.

    The detections themselves stay in the run folders; of the first seed's those on the images shown come along.
    """
    runs, detections = [], {}
    for job in plan.jobs():
        judged = json.loads((run_folder(out, job) / JUDGED).read_text(encoding="utf-8"))
        said = judged.pop("detections")
        if job.seed == plan.seeds[0]:
            detections[title(job.model)] = said
        runs.append({"model": job.model, "seed": job.seed, **judged, **speed[job.name]})
    shown = disagreements(val_data, detections, count=SHOWN)
    ids = {str(val_data.image_ids[d.index]) for d in shown}
    settings = asdict(plan)
    settings["data"] = Path(plan.data).name if plan.data else "Town"  # no path of this machine
    result = {
        "command": command,
        "course_lib": __version__,
        "settings": settings,
        "machine": machine_facts(),
        "models": {
            model: {
                "title": title(model),
                "parameters": next(r["parameters"] for r in runs if r["model"] == model),
                "learning_rate": next(r["learning_rate"] for r in runs if r["model"] == model),
                "memory": memory[model],
            }
            for model in plan.models
        },
        "runs": runs,
        "disagreements": [asdict(d) for d in shown],
        "detections": {
            title: {image: found for image, found in said.items() if image in ids} for title, said in detections.items()
        },
    }
    return {**result, "verdicts": verdicts(result)}


def _write_report(out: Path, result: dict, val_data: CocoDetection) -> None:
    checkpoint.write_text(out / "report.json", json.dumps(result, indent=1))
    checkpoint.write_text(out / "report.csv", to_csv(result))
    checkpoint.write_text(out / "report.html", render_comparison(result, val_data))
