"""The comparison as a page: verdicts first, then the figures that they rest on, then the pictures."""

from collections.abc import Mapping
from html import escape

from course_lib.datasets.coco import CocoDetection
from course_lib.engine.compare.disagreement import draw_disagreement
from course_lib.engine.compare.parts import ORDER
from course_lib.engine.compare.result import by_title, curves, found, mean_figures, points, spreads
from course_lib.engine.compare.verdict import QUANTITIES
from course_lib.engine.page import figure, page, settings, table
from course_lib.viz.errors import error_costs
from course_lib.viz.rivals import ap_over_time, ranges_by_group, speed_accuracy, time_parts

ACCURACY = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR100", "mask_AP", "mask_AP50", "mask_AP75")


def render_comparison(result: Mapping, dataset: CocoDetection) -> str:
    """The page as HTML.

    Args:
        result: what `report.json` holds.
        dataset: the validation images, for the pictures.
    """
    plan, said = result["settings"], result["verdicts"]
    budget = f"{plan['minutes']:g} minutes" if plan["minutes"] is not None else f"{plan['iterations']} steps"
    size = "×".join(map(str, result["runs"][0]["input_size"]))
    titles = [model["title"] for model in result["models"].values()]
    return page(
        "The comparison",
        [
            f"<h1>{escape(', '.join(titles))}: the same task, the same time</h1>",
            f'<p class="quiet">{escape(plan["data"])}: {plan["train"]} images to learn from, {plan["val"]} to be '
            f"judged on. Each model was trained from scratch for {budget} with seeds {_list(plan['seeds'])}, on "
            f"{plan['threads']} threads, at inputs of {size} px, on the same backbone, with the same augmentation.</p>",
            _theirs(result),
            "<h2>What may be said</h2>",
            *[f"<p>{escape(sentence)}</p>" for sentence in said["caution"]],
            _sentences(said["accuracy"]),
            _sentences(said["speed"]),
            _sentences(said["both"]),
            figure(
                speed_accuracy(points(result)),
                "AP over milliseconds an image, a mark for each model",
                "Small marks are seeds, the large one is their mean; the cross is the range.",
            ),
            "<h2>How accurate</h2>",
            _table(result),
            '<p class="quiet">Mean over the seeds, in brackets the range. Small is under 32² pixels, medium to 96²; – '
            "where there are no such objects or masks. AR100 is recall with at most 100 detections an image.</p>",
            figure(
                ap_over_time(curves(result)),
                "AP over minutes of training, a line for each model",
                "Thin lines are seeds. On the way AP is measured on part of the validation images, at the end on all.",
            ),
            "<h2>Where they differ</h2>",
            _sentences(said["where"]),
            figure(
                ranges_by_group(found(result), "share of the objects found"),
                "Share of the objects found by each model, by size and crowding",
                "At an overlap of 0.50, by as many of the best-scored detections as there are objects. Small, medium "
                "and large are thirds of this data's objects; crowded ones overlap another by at least 0.1.",
            ),
            figure(
                error_costs({title: mean_figures(runs, "gain") for title, runs in by_title(result).items()}),
                "AP50 that each kind of error costs each model",
                "What AP50 would gain if the errors of one kind alone were put right; the mean over the seeds.",
            ),
            "<h2>How fast, how large</h2>",
            _costs(result),
            '<p class="quiet">Latency: one image at a time, in fp32, all models in turns. GFLOPs count a '
            "multiplication and an addition as two. Memory: the peak above what the program holds before the first "
            "image, measured in a process of its own; – where the system does not tell. Training includes measuring AP "
            "on the way.</p>",
            figure(
                time_parts({title: mean_figures(runs, "parts") for title, runs in by_title(result).items()}),
                "Milliseconds an image by part: " + ", ".join(ORDER),
                "The backbone includes the pyramid; postprocess is the choice of boxes.",
            ),
            "<h2>Where they disagree most</h2>",
            f"<p>Seed {plan['seeds'][0]}; as many of each model's best detections are drawn as there are objects in "
            "all images together.</p>",
            *[
                figure(draw_disagreement(dataset, result["detections"], d["index"]), d["text"], d["text"])
                for d in result["disagreements"]
            ],
            "<h2>Exact settings</h2>",
            f"<p><code>{escape(result['command'])}</code></p>",
            settings("Comparison", plan),
            settings("Machine", result["machine"]),
            settings("Learning rates", {m["title"]: m["learning_rate"] for m in result["models"].values()}),
        ],
    )


def _sentences(sentences: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def _list(values: list) -> str:
    return ", ".join(map(str, values))


def _table(result: Mapping) -> str:
    """The accuracy of each model, a column for each quantity that has a meaning in some of them."""
    columns = {quantity: column for quantity in ACCURACY if (column := spreads(result, quantity))}
    rows = [
        [title, *(QUANTITIES[q].write(column[title]) if title in column else "–" for q, column in columns.items())]
        for title in by_title(result)
    ]
    return table(["model", *(quantity.replace("_", " ") for quantity in columns)], rows)


def _costs(result: Mapping) -> str:
    """Parameters, arithmetic, time and memory, a row for each model; means over the seeds."""
    rows = []
    for model in result["models"].values():
        runs = by_title(result)[model["title"]]
        mean = lambda read, runs=runs: sum(map(read, runs)) / len(runs)  # noqa: E731
        memory = ["–" if value is None else f"{value:.0f}" for value in model["memory"].values()]
        rows.append(
            [
                model["title"],
                f"{model['parameters'] / 1e6:.2f}",
                f"{mean(lambda r: r['gflops']):.2f}",
                f"{mean(lambda r: r['latency']['median']):.1f}",
                f"{mean(lambda r: r['latency']['p95']):.1f}",
                f"{mean(lambda r: r['images_per_second']['inference']):.0f}",
                f"{mean(lambda r: r['images_per_second']['training']):.0f}",
                f"{mean(lambda r: r['minutes']):.2f}",
                *memory,
            ]
        )
    head = ["model", "M parameters", "GFLOPs", "ms, median", "ms, p95", "images/s", "images/s in training"]
    return table([*head, "minutes of training", "MB, inference", "MB, training"], rows)


def _theirs(result: Mapping) -> str:
    """What Detectron2's models have otherwise than ours; nothing without them."""
    versions = {run["detectron2"] for run in result["runs"] if "detectron2" in run}
    if not versions:
        return ""
    return (
        f'<p class="quiet">Detectron2 ({escape(", ".join(sorted(versions)))}) brought models, data loader and training '
        "step of its own. Input size, anchors, images a step, optimizer, schedule and moving average are as ours; the "
        "backbone is a ResNet-18, the smallest that its configs know. It trains in fp32, for its mixed precision needs "
        "CUDA, and is timed as it is, with its norms not folded. Of its two-stage models the choice of boxes counts as "
        "head.</p>"
    )
