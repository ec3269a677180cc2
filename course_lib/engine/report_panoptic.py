"""The panoptic page of the tour's report: how well every pixel got its name, and what that looks like."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from course_lib.datasets.coco import CocoDetection
from course_lib.datasets.coco_panoptic import to_segments_info
from course_lib.detectors.presets import TITLES
from course_lib.engine.page import figure, number, table
from course_lib.panoptic.quality import match_segments
from course_lib.viz.panoptic import draw_panoptic_comparison

FAMILY = "panoptic_fpn"
TITLE = TITLES[FAMILY]
SHOWN = 4  # images whose maps are drawn


def panoptic_page(facts: Mapping, dataset: CocoDetection, answers: Sequence[Mapping]) -> list[str]:
    """The page's sections, HTML.

    Args:
        facts: what `report.json` says of the panoptic detector.
        dataset: the validation images, opened with `with_panoptic`.
        answers: the detector's, for each of the first images.
    """
    quality = facts["pq"]
    scores = lambda q: [number(q[key]) for key in ("pq", "sq", "rq")]  # noqa: E731
    judged = [(c, q) for c in dataset.panoptic.categories if (q := quality["per_class"][str(c["id"])])["classes"]]
    return [
        f"<h2>{TITLE}: a name for every pixel</h2>",
        f'<p class="quiet">{facts["parameters"]:,} parameters, {facts["recipe"]["minutes"]:.3g} minutes of training on '
        "the same images.</p>",
        f'<p class="figure">PQ {number(quality["all"]["pq"])}</p>',
        "<p>A detector is silent about the sky. A panoptic map divides the whole picture: each pixel belongs to one "
        "thing, or to a class of stuff such as road or grass; or to nothing, where no answer was sure enough.</p>",
        "<p>PQ, panoptic quality, judges such maps. A predicted segment is right when it shares with a true one of its "
        "class more than half of what the two cover together. RQ, recognition quality, falls with each segment that "
        "is missed or invented. SQ, segmentation quality, says how well the right ones fit. In one class PQ is "
        "SQ × RQ; here are means over classes.</p>",
        table(
            ["", "PQ", "SQ", "RQ", "classes"],
            [[group, *scores(quality[group]), str(quality[group]["classes"])] for group in ("all", "things", "stuff")],
        ),
        f'<p class="quiet">The boxes of its things come to AP {number(facts["summary"]["AP"])}, their masks to '
        f"{number(facts['masks']['summary']['AP'])}. It makes {facts['images_per_second']['inference']:.0f} maps a "
        "second.</p>",
        "<h3>Class by class</h3>",
        table(
            ["", "PQ", "SQ", "RQ", "right", "missed", "invented"],
            [[c["name"], *scores(q), *(str(q[key]) for key in ("tp", "fn", "fp"))] for c, q in judged],
        ),
        "<h3>Pixel by pixel</h3>",
        "<p>In a map dark is void. Among the errors grey pixels are right, and dark ones are not judged.</p>",
        *[_maps(dataset, index, answer) for index, answer in enumerate(answers)],
        "<p>Lesson 11 builds this network and the rule that makes one map of its two answers. Lesson 12 takes PQ "
        "apart, and puts UPSNet's panoptic head in the place of the rule.</p>",
    ]


def no_panoptic_page(absent: Path) -> list[str]:
    """What stands in the place of the page where there is no such file of panoptic truth."""
    return [f"<h2>No {TITLE}</h2>", f"<p>It learns from panoptic truth, and there is no {escape(str(absent))}.</p>"]


def _maps(dataset: CocoDetection, index: int, answer: Mapping) -> str:
    """One image: picture, truth, prediction and errors, and what became of the segments in words."""
    truth, image_id = dataset.panoptic, dataset.image_ids[index]
    true_ids, found_ids = truth.ids(image_id), answer["panoptic"].numpy()
    found = to_segments_info(answer["segments"], truth.things, truth.stuff_map)
    matching = match_segments(true_ids, truth.segments(image_id), found_ids, found)
    picture = draw_panoptic_comparison(
        dataset[index][0],
        true_ids,
        truth.labelled(image_id),
        found_ids,
        answer["segments"],
        names=truth.things.names,
        stuff=truth.stuff_map.names,
        columns=2,
    )
    right, missed, invented = map(len, (matching.matched, matching.missed, matching.invented))
    counts = f"{right + missed} segments, {right} right, {missed} missed; {invented} invented"
    text = f"{dataset.image_path(index).name}: {counts}"
    return figure(picture, f"Picture, true map, predicted map and errors of {text}", text)
