"""The sprites of Town: each class as a few silhouettes with inner parts, seen from the side of the street."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from course_lib.datasets.town_shapes import (
    ACCENT,
    DARK,
    GLASS,
    HAIR,
    LAMP,
    LIGHT,
    MAIN,
    SKIN,
    TYRE,
    WHITE,
    Canvas,
    Sprite,
)

Paint = Callable[[Canvas], None]


def _person(stride: float, bag: bool = False, skirt: bool = False) -> Paint:
    def paint(c: Canvas) -> None:
        x = 0.3
        c.limb(DARK, x + 0.11, 0.27, x + 0.15 + stride, 0.53, 0.09)  # the far arm
        if skirt:
            c.limb(SKIN, x - 0.05, 0.7, x - 0.06 - stride / 2, 0.94, 0.09)
            c.limb(SKIN, x + 0.05, 0.7, x + 0.06 + stride / 2, 0.94, 0.09)
            c.poly(ACCENT, (x - 0.12, 0.46), (x + 0.12, 0.46), (x + 0.2, 0.77), (x - 0.2, 0.77))
        else:
            c.limb(ACCENT, x - 0.055, 0.54, x - 0.07 - stride, 0.91, 0.13)
            c.limb(ACCENT, x + 0.055, 0.54, x + 0.07 + stride, 0.91, 0.13)
        for foot in (x - 0.07 - stride, x + 0.07 + stride):
            c.limb(TYRE, foot - 0.02, 0.96, foot + 0.05, 0.96, 0.08)
        c.box(MAIN, x - 0.155, 0.2, x + 0.155, 0.57, 0.08)
        c.limb(DARK, x - 0.13, 0.27, x - 0.16 - stride, 0.53, 0.09)  # the near arm
        c.ellipse(SKIN, x - 0.16 - stride, 0.56, 0.042)
        if bag:
            c.box(LIGHT, x - 0.28, 0.24, x - 0.12, 0.5, 0.05)
        c.box(SKIN, x - 0.04, 0.15, x + 0.04, 0.23)
        c.ellipse(HAIR, x - 0.014, 0.1, 0.125, 0.1)
        c.ellipse(SKIN, x + 0.03, 0.122, 0.088, 0.084)

    return paint


def _dog(sitting: bool, pointed: bool) -> Paint:
    def paint(c: Canvas) -> None:
        if sitting:
            c.limb(MAIN, 0.12, 0.88, 0.02, 0.7, 0.1)  # tail
            c.ellipse(MAIN, 0.34, 0.72, 0.24, 0.26)
            c.poly(MAIN, (0.28, 0.62), (0.5, 0.25), (0.7, 0.4), (0.66, 0.95), (0.5, 0.95))
            c.limb(DARK, 0.6, 0.6, 0.62, 0.95, 0.11)
            c.limb(DARK, 0.26, 0.94, 0.46, 0.94, 0.11)
            head = (0.62, 0.24)
        else:
            c.limb(MAIN, 0.2, 0.42, 0.06, 0.1, 0.1)
            for foot in (0.24, 0.84):
                c.limb(DARK, foot + 0.08, 0.55, foot + 0.1, 0.94, 0.11)
                c.limb(MAIN, foot, 0.55, foot - 0.02, 0.94, 0.12)
            c.box(MAIN, 0.14, 0.32, 0.98, 0.68, 0.16)
            c.ellipse(LIGHT, 0.56, 0.6, 0.28, 0.07)
            head = (1.02, 0.24)
        x, y = head
        c.ellipse(MAIN, x, y, 0.18, 0.17)
        c.limb(MAIN, x + 0.1, y + 0.04, x + 0.24, y + 0.07, 0.15)
        c.ellipse(TYRE, x + 0.29, y + 0.03, 0.045)
        c.ellipse(TYRE, x + 0.07, y - 0.03, 0.035)
        if pointed:
            c.poly(DARK, (x - 0.15, y - 0.06), (x - 0.08, y - 0.24), (x + 0.04, y - 0.12))
        else:
            c.ellipse(DARK, x - 0.1, y + 0.06, 0.07, 0.16)
        c.limb(ACCENT, x - 0.14, y + 0.14, x + 0.02, y + 0.19, 0.06)  # collar

    return paint


def _wheels(c: Canvas, radius: float, *at: float) -> None:
    for x in at:
        c.ellipse(TYRE, x, 1 - radius, radius)
        c.ellipse(WHITE, x, 1 - radius, radius * 0.5)


def _car(cabin: tuple[float, float, float, float], nose: float) -> Paint:
    """`cabin`: x of the cabin's foot behind, roof behind, roof in front, foot in front."""

    def paint(c: Canvas) -> None:
        a, b, d, e = cabin
        c.poly(MAIN, (a, 0.46), (b, 0.06), (d, 0.06), (e, 0.46))
        c.limb(MAIN, b, 0.07, d, 0.07, 0.12)
        mid = (b + d) / 2
        c.poly(GLASS, (a + 0.13, 0.43), (b + 0.06, 0.13), (mid - 0.03, 0.13), (mid - 0.03, 0.43))
        c.poly(GLASS, (mid + 0.04, 0.43), (mid + 0.04, 0.13), (d - 0.04, 0.13), (e - 0.15, 0.43))
        c.box(MAIN, 0.02, 0.4, 2.28, 0.8, 0.12)
        c.poly(MAIN, (e - 0.1, 0.4), (2.2, nose), (2.28, 0.6), (0.2, 0.6))
        c.box(DARK, 0.04, 0.67, 2.28, 0.83, 0.06)
        c.box(LIGHT, 0.1, 0.46, 2.1, 0.51)
        c.box(DARK, mid - 0.01, 0.46, mid + 0.025, 0.7)
        c.ellipse(LAMP, 2.2, 0.56, 0.07, 0.08)
        c.box(ACCENT, 0.02, 0.5, 0.1, 0.62, 0.02)
        _wheels(c, 0.22, 0.48, 1.8)

    return paint


def _van(windows: int, camper: bool = False) -> Paint:
    def paint(c: Canvas) -> None:
        c.box(MAIN, 0.02, 0.04, 1.4, 0.86, 0.08)
        c.poly(MAIN, (1.2, 0.04), (1.36, 0.05), (1.6, 0.44), (1.73, 0.5), (1.75, 0.86), (1.1, 0.86))
        c.poly(GLASS, (1.22, 0.14), (1.34, 0.14), (1.53, 0.44), (1.22, 0.44))
        for i in range(windows):
            x = 0.12 + i * 1.02 / windows
            c.box(GLASS, x, 0.14, x + 1.02 / windows - 0.08, 0.42, 0.03)
        if not windows:
            c.box(DARK, 0.62, 0.12, 0.645, 0.78)
            c.box(LIGHT, 0.1, 0.14, 1.1, 0.2)
            c.ellipse(ACCENT, 0.36, 0.42, 0.15)
        c.box(LIGHT if camper else DARK, 0.02, 0.52, 1.75, 0.6 if camper else 0.56)
        c.box(DARK, 0.02, 0.74, 1.76, 0.87, 0.05)
        c.box(DARK, 1.15, 0.14, 1.175, 0.74)
        c.ellipse(LAMP, 1.69, 0.62, 0.06)
        c.box(ACCENT, 0.02, 0.6, 0.07, 0.72)
        _wheels(c, 0.16, 0.4, 1.4)

    return paint


def _bus(decks: int, stripe: bool) -> Paint:
    def paint(c: Canvas) -> None:
        length, foot = (2.7, 0.9) if decks == 1 else (1.9, 0.93)
        c.box(MAIN, 0.02, 0.03, length, foot, 0.07)
        c.box(LIGHT, 0.04, 0.03, length - 0.02, 0.09, 0.03)
        tops = ((0.17, 0.48),) if decks == 1 else ((0.13, 0.34), (0.5, 0.7))
        for top, bottom in tops:
            c.box(GLASS, 0.1, top, length - 0.04, bottom, 0.04)
            for x in np.arange(0.1, length - 0.2, 0.36 if decks == 1 else 0.3):
                c.box(MAIN, x - 0.02, top - 0.02, x + 0.03, bottom + 0.02)
        c.box(DARK, length - 0.5, tops[-1][0], length - 0.46, foot)
        c.box(GLASS, length - 0.4, tops[-1][0], length - 0.24, foot - 0.06, 0.02)
        if stripe:
            c.box(ACCENT, 0.02, tops[-1][1] + 0.07, length - 0.52, tops[-1][1] + 0.14)
        c.box(DARK, 0.02, foot - 0.09, length, foot, 0.04)
        c.ellipse(LAMP, length - 0.06, foot - 0.14, 0.05)
        r = 0.14 if decks == 1 else 0.1
        _wheels(c, r, 0.22 * length, 0.74 * length)

    return paint


def _kiosk(roof: str) -> Paint:
    def paint(c: Canvas) -> None:
        c.box(DARK, 0.09, 0.2, 0.96, 1)
        c.box(MAIN, 0.09, 0.2, 0.9, 1)
        c.box(TYRE, 0.17, 0.36, 0.86, 0.62)  # the dark opening, its goods and its counter
        for i, part in enumerate((LAMP, ACCENT, WHITE, LIGHT, ACCENT)):
            c.box(part, 0.21 + i * 0.125, 0.5 + 0.03 * (i % 2), 0.3 + i * 0.125, 0.62)
        c.box(LIGHT, 0.12, 0.62, 0.93, 0.68)
        c.box(DARK, 0.2, 0.76, 0.5, 0.94)
        c.box(DARK, 0.56, 0.76, 0.82, 0.94)
        if roof == "awning":
            c.box(DARK, 0.05, 0.06, 1, 0.2, 0.03)
            for i in range(7):
                x = 0.02 + i * 0.143
                part = ACCENT if i % 2 else WHITE
                c.box(part, x, 0.16, x + 0.15, 0.32)
                c.ellipse(part, x + 0.0735, 0.32, 0.0735, 0.05)
        elif roof == "gable":
            c.poly(ACCENT, (0.0, 0.28), (0.52, 0.0), (1.04, 0.28))
            c.box(WHITE, 0.14, 0.28, 0.86, 0.34)
        else:
            c.box(ACCENT, 0.0, 0.1, 1.04, 0.3, 0.05)
            c.box(WHITE, 0.14, 0.15, 0.9, 0.24)

    return paint


def _sign(plate: str) -> Paint:
    def paint(c: Canvas) -> None:
        c.box(TYRE, 0.18, 0.2, 0.27, 1)
        c.box(TYRE, 0.13, 0.96, 0.32, 1)
        if plate == "round":
            c.ellipse(MAIN, 0.225, 0.22, 0.22)
            c.ellipse(WHITE, 0.225, 0.22, 0.145)
            c.box(MAIN, 0.125, 0.19, 0.325, 0.25)
        elif plate == "triangle":
            c.poly(MAIN, (0.0, 0.42), (0.225, 0.0), (0.45, 0.42))
            c.poly(WHITE, (0.1, 0.36), (0.225, 0.125), (0.35, 0.36))
            c.box(TYRE, 0.205, 0.2, 0.245, 0.33)
        elif plate == "square":
            c.box(MAIN, 0.03, 0.0, 0.42, 0.39, 0.04)
            c.box(WHITE, 0.1, 0.07, 0.35, 0.32, 0.02)
            c.limb(MAIN, 0.15, 0.25, 0.3, 0.14, 0.06)
        else:
            c.poly(MAIN, (0.225, 0.0), (0.45, 0.225), (0.225, 0.45), (0.0, 0.225))
            c.poly(WHITE, (0.225, 0.08), (0.37, 0.225), (0.225, 0.37), (0.08, 0.225))
            c.poly(ACCENT, (0.225, 0.14), (0.31, 0.225), (0.225, 0.31), (0.14, 0.225))

    return paint


def _bird(lift: float, span: float) -> Paint:
    """`lift`: how far the wing tips are above (positive) or below the body; `span`: how far they are to its sides."""

    def paint(c: Canvas) -> None:
        x, y, low = (0.8, 0.62, 0) if lift > 0 else (0.8, 0.3, 0.2)
        tip, elbow = y - lift, y - (0.75 * lift + 0.06 if lift > 0 else 0.02)
        c.poly(DARK, (x + 0.08, y - 0.12), (x + 0.5 * span, elbow), (x + span, tip), (x + 0.3 - low, y + 0.12 + low))
        c.poly(DARK, (x - 0.1, y - 0.02), (x - 0.54, y + 0.2), (x - 0.4, y + 0.32), (x - 0.02, y + 0.2))
        c.ellipse(LIGHT, x + 0.02, y + 0.08, 0.26, 0.19)
        c.poly(
            MAIN,
            (x + 0.04, y - 0.12),
            (x - 0.5 * span, elbow),
            (x - span, tip),
            (x - 0.24 + low, y + 0.14 + low),
            (x + 0.12, y + 0.16),
        )
        c.ellipse(MAIN, x + 0.25, y - 0.02, 0.16, 0.15)
        c.poly(LAMP, (x + 0.36, y - 0.1), (x + 0.56, y + 0.02), (x + 0.36, y + 0.08))

    return paint


def _tree(crowns: tuple[tuple[float, float, float], ...]) -> Paint:
    def paint(c: Canvas) -> None:
        c.limb(TYRE, 0.4, 0.6, 0.4, 1.0, 0.09)
        for part, dx, dy, grow in (
            (DARK, 0.02, 0.03, 1.0),
            (MAIN, -0.02, -0.02, 0.85),
            (LIGHT, -0.05, -0.05, 0.45),
        ):
            for x, y, r in crowns:
                c.ellipse(part, x + dx, y + dy, r * grow)

    return paint


SPRITES: dict[str, tuple[Sprite, ...]] = {
    "person": (
        Sprite(_person(0.0), 0.64, 1.0),
        Sprite(_person(0.08), 0.64, 1.02),
        Sprite(_person(0.05, bag=True), 0.64, 0.98),
        Sprite(_person(0.03, skirt=True), 0.64, 0.95),
    ),
    "car": (
        Sprite(_car((0.2, 0.5, 1.2, 1.7), 0.46), 2.3, 0.84),
        Sprite(_car((0.42, 0.78, 1.34, 1.78), 0.44), 2.3, 0.78),
        Sprite(_car((0.06, 0.14, 1.2, 1.62), 0.44), 2.3, 0.86),
    ),
    "sign": (
        Sprite(_sign("round"), 0.45, 1.45),
        Sprite(_sign("triangle"), 0.45, 1.4),
        Sprite(_sign("square"), 0.45, 1.4),
        Sprite(_sign("diamond"), 0.45, 1.5),
    ),
    "bird": (
        Sprite(_bird(0.55, 0.7), 1.7, 1.0),
        Sprite(_bird(-0.55, 0.6), 1.7, 0.95),
        Sprite(_bird(0.28, 0.75), 1.7, 0.75),
    ),
    "dog": (
        Sprite(_dog(False, False), 1.36, 0.52),
        Sprite(_dog(False, True), 1.36, 0.55),
        Sprite(_dog(True, True), 1.0, 0.6),
    ),
    "van": (
        Sprite(_van(0), 1.78, 1.15),
        Sprite(_van(3), 1.78, 1.15),
        Sprite(_van(2, camper=True), 1.78, 1.2),
    ),
    "kiosk": (
        Sprite(_kiosk("awning"), 1.05, 1.55),
        Sprite(_kiosk("gable"), 1.05, 1.6),
        Sprite(_kiosk("flat"), 1.05, 1.5),
    ),
    "bus": (
        Sprite(_bus(1, True), 2.72, 1.45),
        Sprite(_bus(1, False), 2.72, 1.45),
        Sprite(_bus(2, True), 1.92, 1.9),
    ),
}

TREES = (
    Sprite(_tree(((0.4, 0.26, 0.24), (0.2, 0.42, 0.19), (0.6, 0.42, 0.19), (0.4, 0.5, 0.2))), 0.82, 2.6),
    Sprite(_tree(((0.4, 0.2, 0.17), (0.4, 0.4, 0.22), (0.4, 0.58, 0.25))), 0.82, 3.0),
    Sprite(_tree(((0.28, 0.3, 0.24), (0.54, 0.36, 0.25))), 0.82, 2.2),
)
