"""The tour's report: one HTML file that needs nothing beside it."""

from collections.abc import Sequence
from html import escape

import numpy as np

from course_lib.datasets.coco import CocoDetection
from course_lib.engine.mistakes import SURE, Mistake, draw_mistake
from course_lib.engine.page import figure, number, page, settings
from course_lib.viz.draw import draw_boxes
from course_lib.viz.figures import ap_per_class, learning_curve, precision_recall
from course_lib.viz.sheet import side_by_side


def render_report(
    facts: dict, log: Sequence[dict], dataset: CocoDetection, outputs: Sequence[dict], mistakes: Sequence[Mistake]
) -> str:
    """The report as HTML.

    Args:
        facts: what `report.json` holds.
        log: the training log.
        dataset: the validation images.
        outputs: the detector's, for each of them.
        mistakes: to be shown.
    """
    model, town = facts["retinanet"], facts["town"]
    summary = model["summary"]
    curves = {name: (np.linspace(0, 1, len(p)), np.array(p)) for name, p in model["curves"].items()}
    minutes = model["recipe"]["minutes"]
    sections = [
        "<h1>RetinaNet, trained from scratch on this machine</h1>",
        f'<p class="quiet">{model["parameters"]:,} parameters, {minutes:g} minutes of training on '
        f"{facts['machine']['threads']} threads, {town['train']} images; judged on {town['val']} others.</p>",
        f'<p class="figure">AP {number(summary["AP"])}</p>',
        "<p>Average precision, the mean over classes and over ten overlaps from 0.50 to 0.95. "
        f"At an overlap of 0.50 alone it is {number(summary['AP50'])}, at 0.75 {number(summary['AP75'])}.</p>",
        _summary_table(summary),
        "<h2>How it learned</h2>",
        figure(
            learning_curve(log),
            "Losses and average precision over the minutes of training",
            "Losses fall as the learning rate does; AP is measured on the way on part of the validation images.",
        ),
        "<h2>Class by class</h2>",
        figure(ap_per_class(model["per_class"]), "AP and AP50 of each class", "Rare and small classes are harder."),
        figure(
            precision_recall(curves, title="at an overlap of 0.50"),
            "Precision over recall for each class",
            "From left to right the score threshold falls: more objects are found, more detections are wrong. "
            "A curve that drops to zero shows where even the lowest scores find nothing more.",
        ),
        "<h2>Truth and prediction</h2>",
        f"<p>Left what is there, right what was detected with a score of at least {SURE:g}.</p>",
        *[_pair(dataset, outputs, i) for i in range(min(4, len(outputs)))],
        "<h2>The worst mistakes</h2>",
        '<p>The most confident wrong answers, then the largest objects that were missed.</p><div class="row">',
        *[figure(draw_mistake(dataset, outputs, m.index, scale=3), m.text, m.text) for m in mistakes],
        "</div>",
        "<h2>How hard the task is</h2>",
        f"<p>{town['objects_per_image']} objects an image; {town['share_under_14_px']:.0%} are under 14 pixels on "
        f"their longer side, and of {town['share_over_a_third_hidden']:.0%} more than a third is hidden.</p>",
        "<h2>Exact settings</h2>",
        settings("Times in seconds", facts["seconds"]),
        settings("Images per second", model["images_per_second"]),
        settings("Machine", facts["machine"]),
        settings("Training", model["recipe"]),
        settings("Model", model["preset"]),
        settings("Town", town),
    ]
    return page("RetinaNet on Town", sections)


def _summary_table(summary: dict) -> str:
    groups = [("AP", "AP50", "AP75"), ("AP_small", "AP_medium", "AP_large"), ("AR1", "AR10", "AR100")]
    names = [name for group in groups for name in group]
    head = "".join(f'<th class="n">{escape(name.replace("_", " "))}</th>' for name in names)
    cells = "".join(f'<td class="n">{number(summary[name])}</td>' for name in names)
    return (
        f"<table><tr>{head}</tr><tr>{cells}</tr></table>"
        '<p class="quiet">Small is under 32² pixels, medium to 96²; – where there are no such objects. '
        "AR is recall with at most 1, 10 or 100 detections an image.</p>"
    )


def _pair(dataset: CocoDetection, outputs: Sequence[dict], index: int) -> str:
    image, truth = dataset[index]
    names = dataset.label_map.names
    sure = outputs[index]["scores"] >= SURE
    found = {key: value[sure] for key, value in outputs[index].items()}
    left = draw_boxes(image, truth["boxes"], truth["labels"], names=names)
    right = draw_boxes(image, found["boxes"], found["labels"], found["scores"], names=names)
    alt = f"{dataset.image_path(index).name}: {len(truth['boxes'])} objects, {int(sure.sum())} detections"
    return figure(side_by_side([left, right], ["truth", "prediction"]), alt, alt)
