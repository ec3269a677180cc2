"""The tour's report: one HTML file that needs nothing beside it."""

from collections.abc import Mapping, Sequence

import numpy as np

from course_lib.datasets.coco import CocoDetection
from course_lib.detectors.presets import TITLES
from course_lib.engine.mistakes import SURE, Mistake, draw_mistake
from course_lib.engine.page import figure, number, page, settings, table
from course_lib.viz.draw import draw_boxes
from course_lib.viz.figures import ap_per_class, learning_curve, precision_recall
from course_lib.viz.rivals import ap_over_time
from course_lib.viz.sheet import side_by_side


def render_report(
    facts: Mapping,
    logs: Mapping[str, Sequence[Mapping]],
    dataset: CocoDetection,
    outputs: Mapping[str, Sequence[Mapping]],
    mistakes: Sequence[Mistake],
    panoptic: Sequence[str],
) -> str:
    """The report as HTML: RetinaNet in full, the other detectors beside it, and the panoptic page.

    Args:
        facts: what `report.json` holds.
        logs: the training log of everything that was trained, by family.
        dataset: the validation images.
        outputs: for each of the images, of each detector that finds boxes alone.
        mistakes: of RetinaNet's, to be shown.
        panoptic: the sections of the panoptic page, HTML; or what stands in its place.
    """
    model, town = facts["retinanet"], facts["town"]
    summary, rivals = model["summary"], [family for family in outputs if family != "retinanet"]
    precision = {name: (np.linspace(0, 1, len(p)), np.array(p)) for name, p in model["curves"].items()}
    sections = [
        "<h1>RetinaNet, trained from scratch on this machine</h1>",
        f'<p class="quiet">{model["parameters"]:,} parameters, {model["recipe"]["minutes"]:.3g} minutes of training on '
        f"{facts['machine']['threads']} threads, {town['train']} images; judged on {town['val']} others.</p>",
        f'<p class="figure">AP {number(summary["AP"])}</p>',
        "<p>Average precision, the mean over classes and over ten overlaps from 0.50 to 0.95. "
        f"At an overlap of 0.50 alone it is {number(summary['AP50'])}, at 0.75 {number(summary['AP75'])}.</p>",
        _summary_table({TITLES[family]: facts[family]["summary"] for family in outputs}),
        "<h2>How it learned</h2>",
        figure(
            learning_curve(logs["retinanet"]),
            "Losses and average precision over the minutes of training",
            "Losses fall as the learning rate does; AP is measured on the way on part of the validation images.",
        ),
        "<h2>Class by class</h2>",
        figure(ap_per_class(model["per_class"]), "AP and AP50 of each class", "Rare and small classes are harder."),
        figure(
            precision_recall(precision, title="at an overlap of 0.50"),
            "Precision over recall for each class",
            "From left to right the score threshold falls: more objects are found, more detections are wrong. "
            "A curve that drops to zero shows where even the lowest scores find nothing more.",
        ),
        *[text for family in rivals for text in _beside(facts, logs, family)],
        "<h2>Truth and prediction</h2>",
        f"<p>Left what is there, then what was detected with a score of at least {SURE:g}.</p>",
        *[_row(dataset, outputs, i) for i in range(min(4, len(dataset)))],
        "<h2>RetinaNet's worst mistakes</h2>",
        '<p>The most confident wrong answers, then the largest objects that were missed.</p><div class="row">',
        *[figure(draw_mistake(dataset, outputs["retinanet"], m.index, scale=3), m.text, m.text) for m in mistakes],
        "</div>",
        *panoptic,
        "<h2>How hard the task is</h2>",
        f"<p>{town['objects_per_image']} objects an image; {town['share_under_14_px']:.0%} are under 14 pixels on "
        f"their longer side, and of {town['share_over_a_third_hidden']:.0%} more than a third is hidden.</p>",
        "<h2>Exact settings</h2>",
        settings("Times in seconds", facts["seconds"]),
        settings("Machine", facts["machine"]),
        *[text for family in logs for text in _settings_of(facts, family)],
        settings("Town", town),
    ]
    return page(f"{', '.join(TITLES[family] for family in logs)} on Town", sections)


def _beside(facts: Mapping, logs: Mapping[str, Sequence[Mapping]], family: str) -> list[str]:
    """Another detector, trained on the same images but not for the same time."""
    model, own = facts[family], facts["retinanet"]
    on_the_way = {
        TITLES[name]: [[(record["minutes"], record["AP"]) for record in logs[name] if record.get("AP") is not None]]
        for name in ("retinanet", family)
    }
    speed = lambda which: f"{which['images_per_second']['inference']:.0f}"  # noqa: E731
    return [
        f"<h2>{TITLES[family]} beside it</h2>",
        f"<p>{TITLES[family]}, {model['parameters']:,} parameters, learned from the same images for "
        f"{model['recipe']['minutes']:.3g} minutes and came to AP {number(model['summary']['AP'])}. It sees "
        f"{speed(model)} images a second, RetinaNet {speed(own)}. The times differ and there is one seed, so this is "
        "no comparison; <code>course compare</code> makes one.</p>",
        figure(
            ap_over_time(on_the_way),
            f"AP over minutes of training of RetinaNet and {TITLES[family]}",
            "Each at its own pace: the learning rate falls towards the end of a model's own time.",
        ),
    ]


def _summary_table(summaries: Mapping[str, Mapping]) -> str:
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")
    rows = [[title, *(number(summary[name]) for name in names)] for title, summary in summaries.items()]
    return (
        f"{table(['model', *(name.replace('_', ' ') for name in names)], rows)}"
        '<p class="quiet">Small is under 32² pixels, medium to 96²; – where there are no such objects. '
        "AR is recall with at most 1, 10 or 100 detections an image.</p>"
    )


def _row(dataset: CocoDetection, outputs: Mapping[str, Sequence[Mapping]], index: int) -> str:
    """The truth and each detector's sure detections on one image."""
    image, truth = dataset[index]
    names = dataset.label_map.names
    pictures, counts = [draw_boxes(image, truth["boxes"], truth["labels"], names=names)], []
    for family, found in outputs.items():
        sure = found[index]["scores"] >= SURE
        boxes, labels, scores = (found[index][key][sure] for key in ("boxes", "labels", "scores"))
        pictures.append(draw_boxes(image, boxes, labels, scores, names=names))
        counts.append(f"{int(sure.sum())} detections of {TITLES[family]}")
    alt = f"{dataset.image_path(index).name}: {len(truth['boxes'])} objects, {', '.join(counts)}"
    return figure(side_by_side(pictures, ["truth", *map(TITLES.get, outputs)]), alt, alt)


def _settings_of(facts: Mapping, family: str) -> list[str]:
    model, title = facts[family], TITLES[family]
    return [
        settings(f"{title}: images per second", model["images_per_second"]),
        settings(f"{title}: training", model["recipe"]),
        settings(f"{title}: model", model["preset"]),
    ]
