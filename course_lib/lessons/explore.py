"""A figure with dials: sliders and choices that redraw it in place.

    explore(draw_loss, "The loss over the score of the true class.", gamma=(0.0, 5.0, 0.5, 2.0))

What is displayed is an ordinary picture with its alt text, so the notebook shows it everywhere: on GitHub, in nbval,
in a page made from it, without ipywidgets. Where a kernel and ipywidgets are there, controls stand above the picture
and each change replaces it.
"""

import html
import inspect
import math
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from course_lib.viz.show import show

Picture = Figure | Image.Image
FAST = 0.15  # seconds; a figure that is drawn in less follows the slider, another one waits until it is let go


@dataclass(frozen=True)
class Slider:
    """A number from `low` to `high` in steps; whole if all four values are."""

    label: str
    low: float
    high: float
    step: float
    start: float

    @property
    def decimals(self) -> int:
        """How many decimals the values have; 0 for whole numbers."""
        return max(-Decimal(str(v)).normalize().as_tuple().exponent for v in (self.low, self.step, 0))

    def text(self, value: float) -> str:
        """The dial's value as a reader sees it: "gamma = 2.0"."""
        return f"{self.label} = {value:.{self.decimals}f}"

    def clean(self, value: float) -> float:
        """The value without the rounding error of a sum of steps."""
        return value if isinstance(value, int) else round(value, self.decimals)

    def control(self, follow: bool, width: str) -> Any:
        """The widget; `follow`: report values while it is dragged. `width`: of the label, in CSS."""
        from ipywidgets import FloatSlider, IntSlider

        whole = all(isinstance(v, int) for v in (self.low, self.high, self.step, self.start))
        kind, form = (IntSlider, "d") if whole else (FloatSlider, f".{self.decimals}f")
        limits = {"min": self.low, "max": self.high, "step": self.step, "value": self.start}
        looks = {"description": self.label, "style": {"description_width": width}, "layout": {"width": "28em"}}
        return kind(**limits, **looks, readout_format=form, continuous_update=follow)


@dataclass(frozen=True)
class Choice:
    """One of several options."""

    label: str
    options: tuple
    start: Any

    def text(self, value: Any) -> str:
        """The dial's value as a reader sees it: "kind = soft"."""
        return f"{self.label} = {value}"

    def clean(self, value: Any) -> Any:
        """The value itself."""
        return value

    def control(self, follow: bool, width: str) -> Any:
        """The widget, with a label of this width."""
        from ipywidgets import Dropdown

        looks = {"description": self.label, "style": {"description_width": width}}
        return Dropdown(options=[(str(o), o) for o in self.options], value=self.start, **looks)


def explore(draw: Callable[..., Picture], alt: str, **dials: Sequence) -> None:
    """Display `draw` at the dials' start values; in a live notebook, with controls that redraw it in place.

    Args:
        draw: takes each dial's value by its name, returns a matplotlib Figure or a PIL picture.
        alt: what the picture shows at any setting; the values of the dials are added to it.
        dials: by name (low, high, step, start) for a slider, or ((option, option, …), start) for a choice.

    Raises:
        ValueError: if a dial is not of this form, `draw` does not take it, or `draw` returns something else.
    """
    if not dials:
        raise ValueError("explore: found no dial, expected at least one, such as gamma=(0.0, 5.0, 0.5, 2.0)")
    made = {name: _dial(name, spec) for name, spec in dials.items()}
    values = {name: dial.start for name, dial in made.items()}
    try:
        inspect.signature(draw).bind(**values)
    except TypeError as error:
        raise ValueError(f"explore: draw does not take the dials {', '.join(made)} by name: {error}") from None
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt: found {alt!r}, expected a text that says what the picture shows")
    began = time.perf_counter()
    picture = _draw(draw, values)
    place = uuid.uuid4().hex
    _offer_controls(draw, alt, made, values, place, follow=time.perf_counter() - began < FAST)
    show(picture, _alt(alt, made, values), display_id=place)


def _offer_controls(draw: Callable, alt: str, dials: dict, values: dict, place: str, *, follow: bool) -> None:
    """Display the widgets; nothing without ipywidgets or outside a notebook. They change `values` and redraw."""
    try:
        from ipywidgets import HTML, VBox
    except ImportError:
        return
    from IPython import get_ipython
    from IPython.display import display

    if getattr(get_ipython(), "kernel", None) is None:
        return
    message = HTML()

    def turned(name: str, value: Any) -> None:
        values[name] = dials[name].clean(value)
        try:
            show(_draw(draw, values), _alt(alt, dials, values), display_id=place, update=True)
            message.value = ""
        except Exception as error:  # else it would be lost in the kernel's log
            message.value = f"<b>{type(error).__name__}</b>: {html.escape(str(error), quote=False)}"

    controls, width = [], f"{max(len(dial.label) for dial in dials.values()) + 1}ch"
    for name, dial in dials.items():
        control = dial.control(follow, width)
        control.observe(lambda change, name=name: turned(name, change["new"]), names="value")
        controls.append(control)
    display(VBox([*controls, message]))


def _draw(draw: Callable, values: dict) -> Picture:
    """The picture; raises ValueError when `draw` returns something else."""
    picture = draw(**values)
    if not isinstance(picture, Picture):
        kind = type(picture).__name__
        raise ValueError(f"explore: draw returned {kind}, expected a matplotlib Figure or a PIL picture")
    return picture


def _alt(alt: str, dials: dict, values: dict) -> str:
    """The alt text with what the dials say."""
    return f"{alt.strip()} ({', '.join(dial.text(values[name]) for name, dial in dials.items())})"


def _dial(name: str, spec: Sequence) -> Slider | Choice:
    """A dial from what the caller wrote; raises ValueError that says what is expected."""
    label = name.replace("_", " ")
    expected = "expected (low, high, step, start) of numbers, or ((option, option, …), start)"
    if not isinstance(spec, tuple | list) or len(spec) not in (2, 4):
        raise ValueError(f"dial {name!r}: found {spec!r}, {expected}")
    if len(spec) == 2:
        options, start = spec
        if not isinstance(options, tuple | list) or len(options) < 2:
            raise ValueError(f"dial {name!r}: found the options {options!r}, {expected}")
        if start not in options:
            raise ValueError(
                f"dial {name!r}: found the start {start!r}, expected one of {', '.join(map(repr, options))}"
            )
        return Choice(label, tuple(options), start)
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in spec):
        raise ValueError(f"dial {name!r}: found {spec!r}, {expected}")
    low, high, step, start = spec
    if not (step > 0 and low <= start <= high and low < high):
        raise ValueError(f"dial {name!r}: found {spec!r}, expected low < high, step > 0 and a start between them")
    steps = (start - low) / step
    if abs(steps - round(steps)) > 1e-6:
        raise ValueError(f"dial {name!r}: the start {start} is not on the slider, {low} and whole steps of {step}")
    return Slider(label, low, high, step, start)
