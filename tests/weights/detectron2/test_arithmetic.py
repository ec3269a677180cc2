import pytest

from course_lib.weights.detectron2 import arithmetic
from course_lib.weights.detectron2.arithmetic import evaluate


def test_the_expression_of_base_retinanet():
    text = "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"
    assert evaluate(text) == [[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in [32, 64, 128, 256, 512]]


@pytest.mark.parametrize(
    "text, value",
    [
        ("1 + 2 * 3", 7),
        ("-(7 // 2) % 4 - 1", 0),
        ("(1, 2.5)", [1, 2.5]),
        ("[]", []),
        ("[[x * y for y in [1, 2]] for x in [3, 4]]", [[3, 6], [4, 8]]),
        ("[[x for x in [x, 2]] for x in [1]]", [[1, 2]]),
        (" 2 ** -1 ", 0.5),
    ],
)
def test_arithmetic(text, value):
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text, message",
    [
        ("__import__('os').system('touch x')", "a Call"),
        ("().__class__", "an? Attribute"),
        ("x", "a Name, 'x'"),
        ("'a' * 9", "a Constant"),
        ("True", "a Constant"),
        ("1j", "a Constant"),
        ("(-1) ** 0.5", "complex"),
        ("[x for x in [1] if x]", "a ListComp"),
        ("[x for x in [1] for y in [2]]", "a ListComp"),
        ("[x for x in 3]", "a comprehension over a number"),
        ("[y for x, y in [[1, 2]]]", "a ListComp"),
        ("[1] * 1000000000", "a list where a number belongs"),
        ("9 ** 9 ** 9", "an exponent of 387420489"),
        ("1e300 * 1e300", "infinite"),
        ("10 ** 64", r"above 2\*\*53"),
        ("1 / 0", "division by zero"),
        ("lambda: 1", "a Lambda"),
        ("(", "was never closed"),
        ("a; b", "invalid syntax"),
        ("1 + " * 1000 + "1", "characters"),
        ("(" * 900 + "1" + ")" * 900, "."),
        ("~1", "a UnaryOp"),
        ("1 if 1 else 2", "an? IfExp"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(ValueError, match=f"is not plain arithmetic: .*{message}"):
        evaluate(text)


def test_a_nest_of_comprehensions_ends(monkeypatch):
    monkeypatch.setattr(arithmetic, "STEPS", 100)
    ten = "[0,1,2,3,4,5,6,7,8,9]"
    with pytest.raises(ValueError, match="more than 100 steps"):
        evaluate(f"[[[x for x in {ten}] for y in {ten}] for z in {ten}]")
