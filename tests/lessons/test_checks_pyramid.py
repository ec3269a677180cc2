"""Lesson 04's checks of the pyramid pass right solutions, however written, and name the mistake of each wrong one."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.lessons import checks
from course_lib.nn.fpn import FPN
from tests.lessons.exercises import exercise_tests

# ---- 04-3 ---------------------------------------------------------------------------------------------------------


def up(coarse: Tensor, fine: Tensor) -> Tensor:
    return F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")


def merged(laterals: list[Tensor], step: Callable = lambda fine, coarse: fine + up(coarse, fine)) -> list[Tensor]:
    result = [laterals[-1]]
    for lateral in laterals[-2::-1]:
        result.insert(0, step(lateral, result[0]))
    return result


def by_index(laterals: list[Tensor]) -> list[Tensor]:
    """Repeats the nearest cells without interpolate."""

    def step(fine: Tensor, coarse: Tensor) -> Tensor:
        rows, columns = ((torch.arange(n) * m) // n for n, m in zip(fine.shape[-2:], coarse.shape[-2:]))
        return fine + coarse[:, :, rows][:, :, :, columns]

    return merged(laterals, step)


def cropped(laterals: list[Tensor]) -> list[Tensor]:
    def step(fine: Tensor, coarse: Tensor) -> Tensor:
        doubled = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return fine + doubled[:, :, : fine.shape[2], : fine.shape[3]]

    return merged(laterals, step)


def list_in_place(laterals: list[Tensor]) -> list[Tensor]:
    for k in range(len(laterals) - 2, -1, -1):
        laterals[k] += up(laterals[k + 1], laterals[k])
    return laterals


def list_replaced(laterals: list[Tensor]) -> list[Tensor]:
    for k in range(len(laterals) - 2, -1, -1):
        laterals[k] = laterals[k] + up(laterals[k + 1], laterals[k])
    return laterals


def upwards(laterals: list[Tensor]) -> list[Tensor]:
    result = laterals[:1]
    for lateral in laterals[1:]:
        result.append(lateral + up(result[-1], lateral))
    return result


def mixed(align: bool) -> Callable:
    def step(fine: Tensor, coarse: Tensor) -> Tensor:
        return fine + F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=align)

    return lambda laterals: merged(laterals, step)


def everything_above(laterals: list[Tensor]) -> list[Tensor]:
    result = [laterals[-1]]
    for lateral in laterals[-2::-1]:
        result.insert(0, lateral + sum(up(coarse, lateral) for coarse in result))
    return result


RIGHT_TOP_DOWN = {"interpolate": merged, "by index": by_index, "cropped": cropped}
WRONG_TOP_DOWN = {
    "nothing": (lambda maps: maps, "the maps came back as they were"),
    "one level down": (
        lambda maps: [*(a + up(b, a) for a, b in pairwise(maps)), maps[-1]],
        "add the coarser *merged* map",
    ),
    "bilinear": (mixed(False), "you blended neighbours, which"),
    "bilinear, corners": (mixed(True), "(align_corners=True)"),
    "nearest-exact": (
        lambda maps: merged(maps, lambda a, b: a + F.interpolate(b, size=a.shape[-2:], mode="nearest-exact")),
        "picks other cells",
    ),
    "the top to each": (
        lambda maps: [*(fine + up(maps[-1], fine) for fine in maps[:-1]), maps[-1]],
        "you added the coarsest map to each",
    ),
    "in the given list": (list_replaced, "your function changed the list"),
    "the given list emptied": (lambda maps: merged([maps.pop(0) for _ in range(len(maps))]), "changed the list"),
    "no lateral": (lambda maps: merged(maps, lambda a, b: up(b, a)), "the lateral is missing"),
    "bottom-up": (upwards, "starts at the coarsest map"),
    "coarse to fine": (lambda maps: merged(maps)[::-1], "give it back from fine to coarse"),
    "no coarsest": (lambda maps: merged(maps)[:-1], "the coarsest map is missing"),
    "mean": (lambda maps: merged(maps, lambda a, b: (a + up(b, a)) / 2), "not averaged"),
    "concatenated": (lambda maps: merged(maps, lambda a, b: torch.cat((a, up(b, a)), 1)), "not concatenated"),
    "all above": (everything_above, "you added them once more"),
    "in place": (list_in_place, "changed its input in place"),
    "detached": (lambda maps: [m.detach() for m in merged(maps)], "no gradient reaches the input"),
    "subtracted": (lambda maps: merged(maps, lambda a, b: a - up(b, a)), "pencil and paper"),
}

# ---- 04-4 ---------------------------------------------------------------------------------------------------------


def pyramid(features: list[Tensor], lateral: list, output: list, p6, p7) -> list[Tensor]:
    maps = merged([conv(x) for conv, x in zip(lateral, features)])
    maps = [conv(m) for conv, m in zip(output, maps)]
    sixth = p6(features[-1])
    return [*maps, sixth, p7(F.relu(sixth))]


def with_the_library(features: list[Tensor], lateral: list, output: list, p6, p7) -> list[Tensor]:
    channels = {f"c{k}": conv.in_channels for k, conv in enumerate(lateral, 3)}
    fpn = FPN(channels, channels=4, extra="p6p7_from_c5")
    fpn.lateral, fpn.output, fpn.p6, fpn.p7 = nn.ModuleList(lateral), nn.ModuleList(output), p6, p7
    return fpn(dict(zip(channels, features)))


def varied(
    merge: Callable = merged,
    smooth: Callable = lambda output, maps: [conv(m) for conv, m in zip(output, maps)],
    top: Callable = lambda c5, p5, p6, p7: [p6(c5), p7(F.relu(p6(c5)))],
) -> Callable:
    """A solution with one part replaced."""

    def answer(features: list[Tensor], lateral: list, output: list, p6, p7) -> list[Tensor]:
        maps = smooth(output, merge([conv(x) for conv, x in zip(lateral, features)]))
        return maps + top(features[-1], maps[-1], p6, p7)

    return answer


def smoothed_on_the_way(features: list[Tensor], lateral: list, output: list, p6, p7) -> list[Tensor]:
    maps = [output[2](lateral[2](features[2]))]
    for k in (1, 0):
        fine = lateral[k](features[k])
        maps.insert(0, output[k](fine + up(maps[0], fine)))
    return [*maps, p6(features[2]), p7(F.relu(p6(features[2])))]


def p6_of_merged(features: list[Tensor], lateral: list, output: list, p6, p7) -> list[Tensor]:
    sixth = p6(lateral[-1](features[-1]))
    return [*pyramid(features, lateral, output, p6, p7)[:3], sixth, p7(F.relu(sixth))]


RIGHT_FPN = {"steps": pyramid, "the library": with_the_library, "varied": varied()}
WRONG_FPN = {
    "no top-down": (varied(merge=lambda maps: maps), "the top-down path is missing"),
    "one level down": (varied(merge=WRONG_TOP_DOWN["one level down"][0]), "goes on with the merged map"),
    "no smoothing": (varied(smooth=lambda output, maps: maps), "output convolutions are missing"),
    "smoothed on the way": (smoothed_on_the_way, "you passed the smoothed map down"),
    "smoothed first": (
        varied(merge=lambda maps: maps, smooth=lambda output, maps: merged([c(m) for c, m in zip(output, maps)])),
        "merged afterwards",
    ),
    "outputs reversed": (
        varied(smooth=lambda output, maps: [c(m) for c, m in zip(output[::-1], maps)]),
        "in the wrong order",
    ),
    "p6 of p5": (varied(top=lambda c5, p5, p6, p7: [p6(p5), p7(F.relu(p6(p5)))]), "you made P6 of P5"),
    "p6 of m5": (p6_of_merged, "you made P6 of M5"),
    "relu on the outputs": (
        varied(smooth=lambda output, maps: [F.relu(conv(m)) for conv, m in zip(output, maps)]),
        "no ReLU on the pyramid's outputs",
    ),
    "relu on the laterals": (varied(merge=lambda maps: merged([F.relu(m) for m in maps])), "no ReLU on the laterals"),
    "no relu": (varied(top=lambda c5, p5, p6, p7: [p6(c5), p7(p6(c5))]), "the ReLU between P6 and P7"),
    "relu on p6": (varied(top=lambda c5, p5, p6, p7: [F.relu(p6(c5)), p7(F.relu(p6(c5)))]), "P6 itself goes"),
    "relu on p7": (varied(top=lambda c5, p5, p6, p7: [p6(c5), F.relu(p7(F.relu(p6(c5))))]), "without a ReLU behind"),
    "no p6 and p7": (varied(top=lambda *_: []), "P6 and P7 are missing"),
    "no p7": (varied(top=lambda c5, p5, p6, p7: [p6(c5)]), "P7 is missing"),
    "coarse to fine": (lambda *a: pyramid(*a)[::-1], "from P3 to P7"),
    "bilinear": (varied(merge=mixed(False)), "by blending neighbours"),
    "halved": (lambda *a: [m / 2 for m in pyramid(*a)], "pencil and paper"),
    "no return": (lambda *a: None, "returned nothing"),
}

EXERCISES = {
    "04-3: 6": (checks.top_down, RIGHT_TOP_DOWN, WRONG_TOP_DOWN),
    "04-4: 6": (checks.fpn_forward, RIGHT_FPN, WRONG_FPN),
}

TestExercises = exercise_tests(EXERCISES)


def twice(laterals: list[Tensor]) -> list[Tensor]:
    return merged(laterals, lambda fine, coarse: fine + F.interpolate(coarse, scale_factor=2, mode="nearest"))


@pytest.mark.parametrize(("check", "function"), [(checks.top_down, twice), (checks.fpn_forward, varied(merge=twice))])
def test_an_error_of_the_solution_comes_with_the_hint(check: Callable, function: Callable) -> None:
    with pytest.raises(RuntimeError) as caught:
        check(function)
    assert "instead of by scale_factor=2" in caught.value.__notes__[0]


def test_the_checks_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    checks.top_down(merged)
    assert torch.equal(torch.get_rng_state(), before)
