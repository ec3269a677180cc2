"""How an exercise is checked: call the learner's function on inputs whose answers are known, name the likely mistake.

The mistakes that people make are functions too. A wrong answer is compared with what each of them gives for the same
input; the one that agrees is the hint. So a hint is never a guess, and a new one is a line in a table.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

NO_GRADIENT = "no gradient reaches the input: .item(), .detach(), .numpy() and torch.tensor(...) cut it off"
IN_PLACE = "your function changed its input in place; whoever passed it in still needs it"
NOTHING = "your function returned nothing; end it with return"
SHAPES = "look at the shapes step by step"
KEEP_TYPE = "keep the type of the input: no .float(), no torch.tensor(...) on the way"
BY_HAND = "work one of these out with pencil and paper, and compare it with your formula part by part"
NEARLY = "right but for a trace: a small number added to a sum or a logarithm, or float32 or rounding on the way"
SHOWN = 20  # elements of a tensor that a message shows; larger ones are told by their shape


class CheckFailed(AssertionError):
    """A wrong answer. A notebook shows the text alone: the traceback would be the check's, not the learner's."""

    def _render_traceback_(self) -> list[str]:
        """What IPython prints instead of a traceback."""
        return [str(self)]


class Exercise:
    """The checks of one exercise; each passes and is counted, or raises CheckFailed.

    `__tracebackhide__` keeps the frames of this file out of the traceback of an error in the learner's function.

    Args:
        number: "00-1", as on the exercise's card.
        function: the learner's; it returns a tensor, or a tuple of numbers or tensors, or, for `plain`, text or a dict.
        reference: gives the right answers.
        mistakes: by hint, a function that makes that mistake.
    """

    def __init__(
        self, number: str, function: Callable, *, reference: Callable, mistakes: Mapping[str, Callable]
    ) -> None:
        self.number, self.function, self.reference, self.mistakes = number, function, reference, mistakes
        self.passed = 0

    def shape(self, what: str, *arguments: Any, hint: str = SHAPES) -> None:
        """As many results as the reference has, each of its shape. `hint` is for a mistake unknown, or an error."""
        __tracebackhide__ = True
        found = self._call(what, arguments, "" if hint == SHAPES else hint)
        expected = _parts(self.reference(*arguments))
        shapes = [_shapes(parts) for parts in (found, expected)]
        if shapes[0] != shapes[1]:
            self._fail(what, arguments, *shapes, self._diagnose(found, arguments) or hint)
        self.passed += 1

    def dtype(self, what: str, *arguments: Any, hint: str = KEEP_TYPE) -> None:
        """The tensor has the reference's type of number."""
        __tracebackhide__ = True
        (found,), (expected,) = self._call(what, arguments), _parts(self.reference(*arguments))
        if found.dtype != expected.dtype:
            self._fail(what, arguments, str(found.dtype), str(expected.dtype), hint)
        self.passed += 1

    def value(self, what: str, *arguments: Any, expected: Any = None, hint: str = BY_HAND) -> None:
        """The right answer: `expected`, worked out by hand, or the reference's. `hint` is for a mistake unknown."""
        __tracebackhide__ = True
        found = self._call(what, arguments, hint)
        right = _parts(self.reference(*arguments) if expected is None else expected)
        if not _same(found, right):
            unknown = NEARLY if hint == BY_HAND and _same(found, right, nearly=True) else hint
            self._fail(what, arguments, *_apart(found, right), self._diagnose(found, arguments) or unknown)
        self.passed += 1

    def plain(self, what: str, *arguments: Any, expected: Any = None, hint: str = BY_HAND) -> None:
        """The right answer where it is text or a dict. `hint` is for a mistake unknown, or an error."""
        __tracebackhide__ = True
        found = self._answer(what, arguments, hint)
        right = self.reference(*_copies(arguments)) if expected is None else expected
        if found != right:
            answers = ((h, _quietly(lambda f: f(*_copies(arguments)), wrong)) for h, wrong in self.mistakes.items())
            likely = (h for h, answer in answers if answer == found)
            self._fail(what, arguments, str(found), str(right), next(likely, hint))
        self.passed += 1

    def gradient(self, what: str, *arguments: Any) -> None:
        """The derivative of the summed answer by the first argument, a float64 tensor."""
        __tracebackhide__ = True
        found = self._slope(self._run(what), what, arguments)
        right = self._slope(self.reference, what, arguments)
        if not _same([found], [right]):
            hints = (
                hint
                for hint, wrong in self.mistakes.items()
                if _same([found], [_quietly(self._slope, wrong, what, arguments)])
            )
            cut = "a part of the formula is detached, or rounds, or compares"
            hint = next(hints, NEARLY if _same([found], [right], nearly=True) else cut)
            self._fail(what, arguments, *_apart([found], [right]), hint)
        self.passed += 1

    def done(self) -> None:
        """Say that all is well."""
        print(f"ok {self.number}: {self.passed} checks")

    def _call(self, what: str, arguments: tuple, hint: str = "") -> list[Tensor]:
        """The learner's answer as a list of tensors."""
        __tracebackhide__ = True
        answer = self._answer(what, arguments, hint)
        try:
            return _parts(answer)
        except (TypeError, ValueError, RuntimeError):
            kind = type(answer).__name__
            raise CheckFailed(self._say(what, f"your function returned a {kind}, not numbers")) from None

    def _answer(self, what: str, arguments: tuple, hint: str) -> Any:
        """The learner's answer for copies of the arguments."""
        __tracebackhide__ = True
        copies = _copies(arguments)
        answer = self._run(what, hint)(*copies)
        if any(_differs(a, c) for a, c in zip(arguments, copies)):
            raise CheckFailed(self._say(what, IN_PLACE))
        if answer is None:
            raise CheckFailed(self._say(what, NOTHING))
        return answer

    def _run(self, what: str, hint: str = "") -> Callable:
        """The learner's function, whose own errors say in which check they came up."""
        advice = f"\n  Hint: {hint}." if hint else ""

        def run(*arguments: Any) -> Any:
            __tracebackhide__ = True
            try:
                return self.function(*arguments)
            except Exception as error:
                if type(error) is NotImplementedError and not error.args:  # torch's own has a message
                    raise CheckFailed(f"{self.number} is not solved yet: write the body in the cell above") from None
                error.add_note(f"{self.number}, {what}: your function was called with {_call_text(arguments)}{advice}")
                raise

        return run

    def _slope(self, function: Callable, what: str, arguments: tuple) -> Tensor:
        """d sum(function) / d first argument. Raises CheckFailed if nothing depends on it."""
        __tracebackhide__ = True
        first = arguments[0].clone().requires_grad_()
        total = sum(part.sum() for part in _parts(function(first, *arguments[1:])))
        if not total.requires_grad:
            raise CheckFailed(self._say(what, NO_GRADIENT))
        return torch.autograd.grad(total, first)[0]

    def _diagnose(self, found: list[Tensor], arguments: tuple) -> str:
        """The hint of the mistake that gives just this answer; empty if none does."""
        wrong = ((hint, _quietly(lambda f: _parts(f(*arguments)), mistake)) for hint, mistake in self.mistakes.items())
        return next((hint for hint, answer in wrong if answer is not None and _same(found, answer)), "")

    def _fail(self, what: str, arguments: tuple, found: str, expected: str, hint: str) -> None:
        lines = f"\n  called with  {_call_text(arguments)}\n  found        {found}\n  expected     {expected}"
        raise CheckFailed(self._say(what, hint, lines))

    def _say(self, what: str, hint: str, lines: str = "") -> str:
        return f"{self.number}, {what}{lines}\n  Hint: {hint}."


def _copies(arguments: tuple) -> list:
    """The arguments, those that a function could change copied."""
    return [a.clone() if isinstance(a, Tensor) else deepcopy(a) if isinstance(a, dict) else a for a in arguments]


def _differs(a: Any, b: Any) -> bool:
    """Whether a tensor or a dict is no longer what its copy was."""
    return not torch.equal(a, b) if isinstance(a, Tensor) else isinstance(a, dict) and a != b


def _quietly(function: Callable, *arguments: Any) -> Any:
    """What the function gives, or None where it cannot: a mistake need not fit every input."""
    try:
        return function(*arguments)
    except Exception:
        return None


def _parts(answer: Any) -> list[Tensor]:
    """An answer as a list of tensors; Python numbers become float64."""
    parts = list(answer) if isinstance(answer, tuple | list) else [answer]
    return [p if isinstance(p, Tensor) else torch.tensor(float(p), dtype=torch.float64) for p in parts]


def _tolerance(a: Tensor, b: Tensor) -> float:
    return 1e-9 if a.dtype == b.dtype == torch.float64 else 1e-5


def _same(found: list[Tensor], right: list[Tensor | None], nearly: bool = False) -> bool:
    """Equal in number, shape and value, to 1e-5 in float32 and 1e-9 where both are float64; `nearly`, to 1e-4."""
    if len(found) != len(right):
        return False
    for a, b in zip(found, right):
        if b is None or a.shape != b.shape:
            return False
        close = 1e-4 if nearly else _tolerance(a, b)
        if not torch.allclose(a.detach().double(), b.detach().double(), rtol=close, atol=close, equal_nan=True):
            return False
    return True


def _apart(found: list[Tensor], right: list[Tensor]) -> tuple[str, str]:
    """Both as text; of large tensors the first place where they differ. Texts that look alike get shapes, or digits."""
    pairs = list(zip(found, right))
    number, pair = next(((n, p) for n, p in enumerate(pairs, start=1) if not _same([p[0]], [p[1]])), (0, None))
    if len(found) == len(right) and pair[0].shape == pair[1].shape and pair[0].numel() > SHOWN:
        texts = _first_difference(*pair)
        return texts if len(pairs) == 1 else (f"{texts[0]} of result {number} of {len(pairs)}", texts[1])
    if _text(found) != _text(right):
        return _text(found), _text(right)
    if _shapes(found) != _shapes(right):
        return _shapes(found), _shapes(right)
    return _text(found, digits=12), _text(right, digits=12)


def _first_difference(found: Tensor, right: Tensor) -> tuple[str, str]:
    """The first elements that differ, of two tensors of one shape, with as many digits as tell them apart."""
    close = _tolerance(found, right)
    a, b = found.detach().double(), right.detach().double()
    place = tuple((~torch.isclose(a, b, rtol=close, atol=close, equal_nan=True)).nonzero()[0].tolist())
    where = "".join(f"[{i}]" for i in place)
    texts = next(pair for d in (6, 12) if len(set(pair := (f"{a[place]:.{d}g}", f"{b[place]:.{d}g}"))) == 2)
    return f"{texts[0]} at {where}", f"{texts[1]} there"


def _shapes(parts: list[Tensor]) -> str:
    shapes = ", ".join(str(tuple(part.shape)) for part in parts)
    return f"shape {shapes}" if len(parts) == 1 else f"{len(parts)} results of shapes {shapes}"


def _text(value: Any, digits: int = 4) -> str:
    """A value as a learner reads it: short, rounded; large tensors by their shape."""
    if isinstance(value, list):
        return ", ".join(_text(part, digits) for part in value)
    if isinstance(value, tuple):
        return f"({', '.join(_text(part, digits) for part in value)})"
    if not isinstance(value, Tensor):
        return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
    if value.numel() > SHOWN:
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}".replace("torch.", "")
    return str(_rounded(value.detach().tolist(), digits))


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, list):
        return [_rounded(v, digits) for v in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def _call_text(arguments: tuple) -> str:
    return ", ".join(f"[{_text(a)}]" if isinstance(a, list) else _text(a) for a in arguments)
