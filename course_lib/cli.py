"""The `course` command. Each verb reads its arguments and calls one function."""

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from course_lib.cli_data import Annotations, Images, Json, Split, data_app, parse_size
from course_lib.cli_lessons import lessons_app
from course_lib.cli_weights import BackboneRate, Config, Freeze, Offline, Weights, find_start, open_named, weights_app

# Nothing heavy is imported here: `course --help` answers at once. Each verb imports what it needs.

EPILOG = "Start with `course doctor`, then `course tour`. Every verb has --help."
app = typer.Typer(
    help="Object detection, from focal loss to panoptic segmentation, on a laptop without a GPU.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")
app.add_typer(lessons_app)  # without a name: its verbs stand beside those of this file


class Judge(StrEnum):
    """What overlap is measured on."""

    bbox = "bbox"
    segm = "segm"


class CrowdRule(StrEnum):
    """Which crowd regions excuse an unmatched panoptic prediction."""

    all = "all"
    last = "last"


Data = Annotated[
    Path | None, typer.Option("--data", help="A data folder: images/ and annotations/instances_SPLIT.json.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[str, typer.Option(help="auto (bf16 where the processor has it), fp32 or bf16.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads; by default all.")]


@app.command()
def doctor(as_json: Json = False) -> None:
    """Is this machine ready? Says what to do about each fault."""
    from course_lib.doctor import exit_code, findings_as_json, format_findings, run_doctor

    findings = run_doctor()
    print(findings_as_json(findings) if as_json else format_findings(findings))
    raise typer.Exit(exit_code(findings))


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="retinanet, ssd, yolo, faster_rcnn, mask_rcnn, panoptic_fpn or upsnet.")],
    out: Annotated[Path, typer.Option(help="The run folder to write.")],
    data: Data = None,
    images: Images = None,
    annotations: Annotations = None,
    val_images: Annotated[Path | None, typer.Option(help="With --images: images to measure AP on, on the way.")] = None,
    val_annotations: Annotated[Path | None, typer.Option(help="Their COCO JSON.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.05, help="Budget in minutes; the schedule follows the clock.")
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Budget in steps; then the result is exactly repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and augmentation.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    preset: Annotated[
        str | None, typer.Option(help="tiny (the default), or one of the model's full presets (slow without a GPU).")
    ] = None,
    weights: Weights = None,
    freeze: Freeze = None,
    backbone_rate: BackboneRate = 1.0,
    offline: Offline = False,
    precision: Precision = "auto",
    device: Device = "auto",
    threads: Threads = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step.")] = 8,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate; by default the preset's.")] = None,
) -> None:
    """Train a detector on any COCO data set. Ctrl-C saves; --resume goes on.

    Input size, anchors and schedule follow from the data and the budget. With --weights a detector keeps its own input
    size and anchors, and what predicts classes starts afresh if the data has others.
    """
    from course_lib.engine.recipe import Recipe
    from course_lib.engine.run import pick_precision, train_run

    chosen, start = find_start(model, preset, weights, freeze, backbone_rate, offline=offline)
    _set_threads(threads)
    recipe = Recipe(
        minutes=minutes,
        iterations=iterations,
        seed=seed,
        batch_size=batch_size,
        precision=pick_precision(precision),
        learning_rate=learning_rate,
        backbone_rate=backbone_rate,
    )
    train_data = _open(data, images, annotations, "train")
    val_data = None
    if data is not None:
        val_data = _open(data, None, None, "val", label_map=train_data.label_map)
    elif val_images is not None or val_annotations is not None:
        if val_images is None or val_annotations is None:
            raise ValueError("--val-images and --val-annotations belong together: give both or neither")
        val_data = _open(None, val_images, val_annotations, "val", label_map=train_data.label_map)
    try:
        trainer = train_run(
            chosen,
            recipe,
            train_data=train_data,
            val_data=val_data,
            out=out,
            start=start,
            resume=resume,
            device=device,
        )
    except KeyboardInterrupt:
        print(
            f"\nStopped; the state is saved. Go on with the same command and --resume (run folder {out}).",
            file=sys.stderr,
        )
        raise typer.Exit(130) from None
    ap = "" if trainer.last_ap is None else f", AP {trainer.last_ap:.3f} on the way"
    print(f"{out}: {trainer.iteration} iterations in {trainer.seconds / 60:.1f} minutes{ap}.")
    print(f"Measure it: course evaluate {out} --data {data or 'DIR'}")


@app.command()
def evaluate(
    run: Annotated[Path | None, typer.Argument(help="A run folder or its weights.safetensors.")] = None,
    data: Data = None,
    images: Images = None,
    annotations: Annotations = None,
    split: Split = Split.val,
    detections: Annotated[
        Path | None, typer.Option(help="Instead of a run: a COCO results JSON, judged against --annotations.")
    ] = None,
    from_labels: Annotated[
        bool, typer.Option("--from-labels", help="With --detections: its category ids are labels 0 … K−1.")
    ] = False,
    iou: Annotated[Judge, typer.Option(help="Overlap of boxes or of masks.")] = Judge.bbox,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or auto.")] = "fp32",
    device: Device = "auto",
    threads: Threads = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 16,
    errors: Annotated[bool, typer.Option("--errors", help="Also say which kinds of error cost how much AP50.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="Of a panoptic run: write its maps to this JSON and its folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """COCO's average precision of a run, or of a results file that any program wrote; of a panoptic run PQ, too."""
    from course_lib.datasets.label_map import LabelMap
    from course_lib.engine.errors import error_anatomy, errors_of_files
    from course_lib.engine.evaluate import detect_dataset, evaluate_files, evaluate_results
    from course_lib.engine.model_files import load_model
    from course_lib.engine.panoptic import evaluate_panoptic
    from course_lib.engine.run import pick_device, pick_precision

    if (run is None) == (detections is None):
        raise ValueError("give a run to evaluate, or --detections with --annotations")
    if errors and iou != Judge.bbox:
        raise ValueError("--errors looks at boxes: leave out --iou segm")
    if detections is not None:
        if annotations is None:
            raise ValueError("--detections needs --annotations, the ground truth to judge against")
        metrics = evaluate_files(annotations, detections, iou_type=iou.value, from_labels=from_labels)
        anatomy = errors_of_files(annotations, detections) if errors else None
        _print_metrics(metrics, anatomy, as_json)
        return
    _set_threads(threads)
    model, label_map, header = load_model(run)
    panoptic = getattr(model, "uses_semantic", False)
    if save is not None and not panoptic:
        raise ValueError(f"{run}: this detector makes no panoptic maps: leave out --save")
    if iou == Judge.segm and not getattr(model, "uses_masks", False):
        raise ValueError(f"{run}: this detector finds boxes and no masks: leave out --iou segm")
    dataset = _open(data, images, annotations, split.value, label_map=label_map)
    model = model.to(pick_device(device))
    how = {"batch_size": batch_size, "precision": pick_precision(precision), "progress": not as_json}
    if panoptic:
        dataset = dataset.with_panoptic(LabelMap.from_dict(header["stuff_map"]))
        metrics, results, seconds = evaluate_panoptic(model, dataset, save=save, **how)
    else:
        results, _, seconds = detect_dataset(model, dataset, **how)
        metrics = evaluate_results(dataset.coco, results, iou_type=iou.value)
    anatomy = error_anatomy(dataset.coco, results) if errors else None
    rate = {"seconds": round(seconds, 3), "images_per_second": round(len(dataset) / max(seconds, 1e-9), 1)}
    _print_metrics(metrics, anatomy, as_json, rate)
    if not as_json:
        print(f"{len(dataset)} images, {rate['images_per_second']} a second")


def _print_metrics(metrics, anatomy, as_json: bool, more: dict | None = None) -> None:
    """Print AP and, if it was asked for, the error anatomy: as tables or, with `more` values, as one JSON object."""
    if as_json:
        values = metrics.to_dict() | ({} if anatomy is None else {"errors": anatomy.to_dict()}) | (more or {})
        print(json.dumps(values, indent=1))
    else:
        print(metrics if anatomy is None else f"{metrics}\n\n{anatomy}\n")


@app.command()
def pq(
    truth: Annotated[Path, typer.Argument(help="The ground truth: a COCO panoptic JSON.")],
    predictions: Annotated[Path, typer.Argument(help="The predictions: another.")],
    gt_dir: Annotated[
        Path | None, typer.Option(help="The truth's PNGs; by default the folder named as its JSON.")
    ] = None,
    pred_dir: Annotated[Path | None, typer.Option(help="The predictions' PNGs; likewise.")] = None,
    crowds: Annotated[
        CrowdRule, typer.Option(help="all crowd regions of a class excuse predictions; or the last, as in panopticapi.")
    ] = CrowdRule.all,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the result does not depend on it.")] = 1,
    as_json: Json = False,
) -> None:
    """Panoptic quality of a prediction, whoever made it: PQ, SQ and RQ of all, things and stuff, and of each class."""
    from course_lib.engine.pq import format_pq, open_panoptic, pq_files

    true, found = open_panoptic(truth, gt_dir), open_panoptic(predictions, pred_dir)
    quality = pq_files(true, found, crowds=crowds.value, workers=workers, progress=not as_json)
    print(json.dumps(quality.to_dict(), indent=1) if as_json else format_pq(quality, true.categories))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder or its weights.safetensors; with --weights, a picture.")],
    images: Annotated[list[Path] | None, typer.Argument(help="Pictures, or folders of them.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Instead of a run: a peer's file, or a published model such as retinanet_resnet50_fpn."),
    ] = None,
    config: Config = None,
    offline: Offline = False,
    out: Annotated[Path, typer.Option(help="Where the overlays and JSON files go.")] = Path("predictions"),
    score: Annotated[float, typer.Option(min=0, max=1, help="Leave out what is less certain.")] = 0.5,
    device: Device = "auto",
) -> None:
    """Detect on pictures: for each an overlay (PNG) and its detections (JSON); of a panoptic run its maps, too.

    The maps' images count from 1; `course evaluate --save` writes those of a data set under its own ids.
    """
    from course_lib.datasets.label_map import LabelMap
    from course_lib.engine.model_files import load_model
    from course_lib.engine.predict import find_images, predict_files
    from course_lib.engine.run import pick_device

    if weights is not None:
        images = [run, *(images or [])]
        found = open_named(weights, config, offline=offline)
        model, label_map, header = found.model, found.label_map, found.header
    elif not images:
        raise ValueError(f"which pictures? Give some after {run}, or --weights NAME")
    else:
        model, label_map, header = load_model(run)
    stuff_map = LabelMap.from_dict(header["stuff_map"]) if "stuff_map" in header else None
    predictions = predict_files(
        model.to(pick_device(device)), label_map, find_images(images), out, score=score, stuff_map=stuff_map
    )
    for prediction in predictions:
        if prediction.error:
            print(f"error: {prediction.error}", file=sys.stderr)
        else:
            found = ", ".join(f"{d['name']} {d['score']:.2f}" for d in prediction.detections) or "nothing found"
            print(f"{prediction.overlay}: {found}")
    raise typer.Exit(1 if any(p.error for p in predictions) else 0)


@app.command()
def tour(
    out: Annotated[Path, typer.Option(help="The folder for data, runs and report.")] = Path("runs/tour"),
    minutes: Annotated[float, typer.Option(min=0.05, help="Training time of all together.")] = 5.0,
    images: Annotated[int, typer.Option(min=16, help="Training images; an eighth as many for validation.")] = 4000,
    seed: Annotated[int, typer.Option(min=0, help="Of the training; the Town stays the same.")] = 0,
    precision: Precision = "auto",
    threads: Threads = None,
) -> None:
    """The course in six minutes: make a Town, train three networks on it, measure them, write report.html.

    Run again after a break, it goes on where it stopped.
    """
    from course_lib.engine.run import pick_precision
    from course_lib.engine.tour import headline, run_tour

    _set_threads(threads)
    try:
        report = run_tour(out, minutes=minutes, images=images, seed=seed, precision=pick_precision(precision))
    except KeyboardInterrupt:
        print("\nStopped; nothing is lost. The same command goes on.", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"{headline(report)} on Town val. Open {out / 'report.html'}")


@app.command()
def compare(
    out: Annotated[Path, typer.Option(help="The folder for data, runs and report.")] = Path("runs/compare"),
    models: Annotated[
        str, typer.Option(help="Which, with commas between; mask_rcnn on request.")
    ] = "retinanet,ssd,yolo,faster_rcnn",
    peer: Annotated[
        str | None, typer.Option("--with", help="detectron2: its own models of the same families, too, in all as ours.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.05, help="Training time of each run; by default 3.")] = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Or steps of each run; then the result is exactly repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many: 0, 1, 2 …")] = 3,
    data: Annotated[Path | None, typer.Option(help="A data folder; by default a Town is made.")] = None,
    images: Annotated[
        int, typer.Option(min=16, help="Training images of the Town; an eighth as many to judge.")
    ] = 4000,
    input_size: Annotated[
        str | None,
        typer.Option(help="Of all networks: side in pixels, or HEIGHTxWIDTH; by default as data and budget allow."),
    ] = None,
    precision: Precision = "auto",
    threads: Threads = None,
) -> None:
    """A fair comparison: every model, several seeds, the same data and time. Writes report.html, .json and .csv.

    Run again after a break, it goes on where it stopped; more models or seeds are added to what is there.
    """
    from course_lib.engine.compare.plan import with_peer
    from course_lib.engine.compare.run import make_plan, run_comparison
    from course_lib.engine.run import pick_precision

    plan = make_plan(
        models=with_peer([name.strip() for name in models.split(",") if name.strip()], peer),
        seeds=tuple(range(seeds)),
        minutes=3.0 if minutes is None and iterations is None else minutes,
        iterations=iterations,
        data=data,
        input_size=_size_pair("--input-size", input_size),
        precision=pick_precision(precision),
        threads=threads,
    )
    command = " ".join(["course", *sys.argv[1:]])
    try:
        result = run_comparison(out, plan, images=images, command=command)
    except KeyboardInterrupt:
        print("\nStopped; nothing is lost. The same command goes on.", file=sys.stderr)
        raise typer.Exit(130) from None
    for sentence in [*result["verdicts"]["caution"], *result["verdicts"]["accuracy"], *result["verdicts"]["both"]]:
        print(sentence)
    print(f"Open {out / 'report.html'}")


def _size_pair(option: str, text: str | None) -> tuple[int, int] | None:
    size = None if text is None else parse_size(option, text)
    return (size, size) if isinstance(size, int) else size


def _open(data: Path | None, images: Path | None, annotations: Path | None, split: str, **options):
    """The split of a data folder, or a plain COCO folder by its two parts."""
    from course_lib.datasets.coco import CocoDetection, open_split

    if data is not None:
        if images is not None or annotations is not None:
            raise ValueError("give --data, or --images with --annotations, not both")
        return open_split(data, split, **options)
    if images is None or annotations is None:
        raise ValueError("which data? Give --data DIR, or both --images DIR and --annotations FILE.json")
    return CocoDetection(images, annotations, **options)


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def main() -> None:
    """Entry point: a mistake of the user's gives one clear line and exit code 2, never a traceback.

    Set COURSE_DEBUG=1 to see the traceback all the same.
    """
    try:
        app()
    except (ValueError, OSError) as error:
        if os.environ.get("COURSE_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
