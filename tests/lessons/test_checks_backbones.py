"""Lesson 04's checks of the backbone pass right solutions, however written, and name the mistake of each wrong one."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from course_lib.lessons import checks
from course_lib.nn import receptive_field as library
from tests.lessons.exercises import exercise_tests

# ---- 04-1 ---------------------------------------------------------------------------------------------------------


def field(layers: list) -> tuple[int, int]:
    r = j = 1
    for k, s in layers:
        r, j = r + (k - 1) * j, j * s
    return r, j


def from_the_end(layers: list) -> tuple[int, int]:
    cells = 1
    for k, s in layers[::-1]:
        cells = (cells - 1) * s + k
    return cells, math.prod(s for _, s in layers)


def looped(step: Callable, start: tuple[int, int] = (1, 1)) -> Callable:
    """A solution that carries (field, stride) through the layers by `step`."""

    def answer(layers: list) -> tuple[int, int]:
        r, j = start
        for k, s in layers:
            r, j = step(r, j, k, s)
        return r, j

    return answer


def previous_alone(layers: list) -> tuple[int, int]:
    r, before = 1, 1
    for k, s in layers:
        r, before = r + (k - 1) * before, s
    return r, field(layers)[1]


RIGHT_FIELD = {
    "a loop": field,
    "from the end": from_the_end,
    "the library": library.receptive_field,
    "tensors": lambda layers: torch.tensor(field(layers)).unbind(),
}
WRONG_FIELD = {
    "no strides": (looped(lambda r, j, k, s: (r + k - 1, j * s)), "the strides are not used"),
    "whole kernels": (looped(lambda r, j, k, s: (r + k * j, j * s)), "you added whole kernels"),
    "own stride": (looped(lambda r, j, k, s: (r + (k - 1) * j * s, j * s)), "multiply afterwards"),
    "the stride before": (previous_alone, "all strides before it count"),
    "the last step": (looped(lambda r, j, k, s: (r + (k - 1) * j, s)), "you kept the last stride alone"),
    "even kernels": (looped(lambda r, j, k, s: (r + k // 2 * 2 * j, j * s)), "an even kernel"),
    "added strides": (looped(lambda r, j, k, s: (r + (k - 1) * j, j + s)), "they multiply"),
    "from 0": (looped(lambda r, j, k, s: (r + (k - 1) * j, j * s), start=(0, 1)), "begin with 1"),
    "backwards": (lambda layers: field(layers[::-1]), "start at the image"),
    "swapped": (lambda layers: field(layers)[::-1], "are swapped"),
    "one number": (lambda layers: field(layers)[0], "give back two numbers"),
    "the last stride": (lambda layers: (field(layers)[0], layers[-1][1]), "not that of the last layer"),
    "one side": (looped(lambda r, j, k, s: (r + (k - 1) // 2 * j, j * s)), "you counted one side"),
    "kernel 3 always": (looped(lambda r, j, k, s: (r + 2 * j, j * s)), "pencil and paper"),
    "no return": (lambda layers: None, "returned nothing"),
}

# ---- 04-2 ---------------------------------------------------------------------------------------------------------


def block(x: Tensor, conv1, bn1, conv2, bn2, shortcut) -> Tensor:
    y = bn2(conv2(F.relu(bn1(conv1(x)))))
    return F.relu(y + (x if shortcut is None else shortcut(x)))


def torchvisions(x: Tensor, conv1, bn1, conv2, bn2, shortcut) -> Tensor:
    theirs = BasicBlock(1, 1)
    theirs.conv1, theirs.bn1, theirs.conv2, theirs.bn2, theirs.downsample = conv1, bn1, conv2, bn2, shortcut
    return theirs(x)


def skip(x: Tensor, shortcut) -> Tensor:
    return x if shortcut is None else shortcut(x)


def in_place(x: Tensor, c1, b1, c2, b2, s) -> Tensor:
    y = b2(c2(F.relu(b1(c1(x)))))
    return F.relu(x.add_(y) if s is None else y + s(x))


RIGHT_BLOCK = {
    "functions": block,
    "torchvision's": torchvisions,
    "modules": lambda x, c1, b1, c2, b2, s: nn.ReLU()(nn.Sequential(c1, b1, nn.ReLU(), c2, b2)(x) + skip(x, s)),
}
WRONG_BLOCK = {
    "no shortcut": (lambda x, c1, b1, c2, b2, s: F.relu(b2(c2(F.relu(b1(c1(x)))))), "the shortcut is missing"),
    "no last relu": (lambda x, c1, b1, c2, b2, s: b2(c2(F.relu(b1(c1(x))))) + skip(x, s), "the last ReLU is missing"),
    "relu before the sum": (
        lambda x, c1, b1, c2, b2, s: F.relu(b2(c2(F.relu(b1(c1(x)))))) + skip(x, s),
        "to the branch and then added",
    ),
    "relu on the branch too": (
        lambda x, c1, b1, c2, b2, s: F.relu(F.relu(b2(c2(F.relu(b1(c1(x)))))) + skip(x, s)),
        "no ReLU behind bn2",
    ),
    "relu on the shortcut": (
        lambda x, c1, b1, c2, b2, s: F.relu(b2(c2(F.relu(b1(c1(x))))) + (x if s is None else F.relu(s(x)))),
        "without a ReLU of its own",
    ),
    "no relu between": (lambda x, c1, b1, c2, b2, s: F.relu(b2(c2(b1(c1(x)))) + skip(x, s)), "between the two"),
    "no bn2": (lambda x, c1, b1, c2, b2, s: F.relu(c2(F.relu(b1(c1(x)))) + skip(x, s)), "bn2 is missing"),
    "bn2 of the sum": (
        lambda x, c1, b1, c2, b2, s: F.relu(b2(c2(F.relu(b1(c1(x)))) + skip(x, s))),
        "bn2 normalises the branch alone",
    ),
    "relu before bn1": (
        lambda x, c1, b1, c2, b2, s: F.relu(b2(c2(b1(F.relu(c1(x))))) + skip(x, s)),
        "conv1, bn1, ReLU",
    ),
    "detached": (lambda x, *m: block(x.detach(), *m), "no gradient reaches the input"),
    "float32": (lambda x, *m: block(x, *m).float(), "keep the type of the input"),
    "in place": (in_place, "changed its input in place"),
    "halved": (lambda x, *m: block(x, *m) / 2, "pencil and paper"),
}


def shortcut_of_y(x: Tensor, c1, b1, c2, b2, s) -> Tensor:
    y = F.relu(b1(c1(x)))
    return F.relu(b2(c2(y)) + skip(y, s))


WRONG_BLOCK["shortcut of y"] = (shortcut_of_y, "the shortcut takes the block's input x")

EXERCISES = {
    "04-1: 6": (checks.receptive_field, RIGHT_FIELD, WRONG_FIELD),
    "04-2: 7": (checks.residual_block, RIGHT_BLOCK, WRONG_BLOCK),
}

TestExercises = exercise_tests(EXERCISES)


def test_an_error_of_the_solution_comes_with_the_hint() -> None:
    with pytest.raises(RuntimeError) as caught:
        checks.residual_block(lambda x, *m: block(x, *m[:4], None))
    assert "add shortcut(x)" in caught.value.__notes__[0]
    with pytest.raises(TypeError) as caught:
        checks.residual_block(lambda x, *m: F.relu(m[4](x)))
    assert "add x as it is" in caught.value.__notes__[0]
