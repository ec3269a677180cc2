"""Work out a number, or a list of them, that a config file gives as a Python expression, without running Python.

Detectron2's Base-RetinaNet.yaml has one: `[[x, x * 2**(1.0/3), x * 2**(2.0/3)] for x in [32, 64, 128, 256, 512]]`. Its
own reader calls `eval`. Here the expression is parsed, and what its tree may hold is: numbers, lists, names that a
list comprehension binds, and + − * / // % ** between numbers.
"""

import ast
import math
import operator
from collections.abc import Mapping
from typing import Any

LENGTH = 2000  # characters
STEPS = 10_000  # parts of the tree that are visited, again in each turn of a comprehension
LARGEST = 2.0**53  # a number above it would not be exact; with `EXPONENT` it keeps 9**9**9 from filling the memory
EXPONENT = 64
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def evaluate(text: str) -> Any:
    """The value of an expression of numbers and lists; a tuple comes as a list.

    Raises:
        ValueError: for anything else (calls, attributes, text, conditions), for a division by 0, and for an expression
            that is too long or takes too many steps.
    """
    try:
        if len(text) > LENGTH:
            raise ValueError(f"{len(text)} characters, at most {LENGTH} are read")
        return _Evaluation().value(ast.parse(text.strip(), mode="eval").body, {})
    except (ValueError, ArithmeticError, RecursionError, MemoryError, SyntaxError) as error:
        raise ValueError(f"the expression {text[:60]!r} is not plain arithmetic: {error}") from None


class _Evaluation:
    def __init__(self) -> None:
        self.steps = 0

    def value(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        self.steps += 1
        if self.steps > STEPS:
            raise ValueError(f"it takes more than {STEPS} steps")
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return _limited(number)
            case ast.Name(id=name) if name in names:
                return names[name]
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return [self.value(part, names) for part in parts]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -_number(self.value(operand, names))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                a, b = _number(self.value(left, names)), _number(self.value(right, names))
                if isinstance(op, ast.Pow) and abs(b) > EXPONENT:
                    raise ValueError(f"an exponent of {b}, at most {EXPONENT}")
                return _limited(OPERATORS[type(op)](a, b))
            case ast.ListComp(
                elt=element,
                generators=[ast.comprehension(target=ast.Name(id=name), iter=source, ifs=[], is_async=0)],
            ):
                values = self.value(source, names)
                if not isinstance(values, list):
                    raise ValueError("a comprehension over a number")
                return [self.value(element, {**names, name: value}) for value in values]
        raise ValueError(f"it has a {type(node).__name__}, {ast.unparse(node)[:40]!r}")


def _number(value: Any) -> int | float:
    if isinstance(value, list):
        raise ValueError("a list where a number belongs")
    return value


def _limited(value: Any) -> int | float:
    if isinstance(value, complex) or not math.isfinite(value) or abs(value) > LARGEST:
        raise ValueError("a number that is complex, infinite or above 2**53")
    return value
