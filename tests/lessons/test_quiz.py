"""The quiz tells right from wrong and explains both, and neither its file nor its display gives an answer away."""

import json
from pathlib import Path

import pytest

from course_lib.lessons import quiz as module
from course_lib.lessons.quiz import FOLDER, Quiz, seal, unseal

CLEAR = [
    {
        "text": f"Is {n} < 2? `a & b`",
        "options": [
            {"text": "Yes", "explanation": f"Grün: {n} is smaller.", "right": n == 1},
            {"text": "No", "explanation": f"Gelb: {n} is not.", "right": n > 1},
        ],
    }
    for n in (1, 2, 3)
]
EXPLANATIONS = [option["explanation"] for question in CLEAR for option in question["options"]]


@pytest.fixture
def quiz(tmp_path: Path) -> Quiz:
    (tmp_path / "09.json").write_text(json.dumps(seal(CLEAR)), encoding="utf-8")
    return Quiz.open("09", folder=tmp_path)


def test_answers_are_judged_and_explained(quiz: Quiz, capsys: pytest.CaptureFixture[str]) -> None:
    quiz.check({1: "a", 2: " A ", 3: ""})
    assert capsys.readouterr().out == (
        "1  a, right. Grün: 1 is smaller.\n2  a, not quite. Grün: 2 is smaller.\n3  not answered yet\n1 of 3 right\n"
    )
    quiz.check({1: "b", 2: "b", 3: "b"})
    assert "2 of 3 right" in capsys.readouterr().out
    quiz.check({})
    assert capsys.readouterr().out.count("not answered yet") == 3


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({1: "c"}, "from a to b"),
        ({1: 2}, "found .2., expected a letter"),
        ({1: "ab"}, "'ab'"),
        ({4: "a"}, "3 questions"),
    ],
)
def test_what_is_no_answer_is_refused(quiz: Quiz, answers: dict[int, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        quiz.check(answers)


def test_the_file_and_the_display_do_not_give_the_answers_away(quiz: Quiz) -> None:
    sealed = seal(CLEAR)
    texts = [json.dumps(sealed, ensure_ascii=False), repr(quiz), quiz._repr_html_()]
    for text in texts:
        assert not [e for e in EXPLANATIONS if e in text]
        assert "true" not in text.lower()
    assert len({question["answer"] for question in sealed}) == 3  # the same letter, another hash


def test_the_display_is_plain_text_and_escaped_html(quiz: Quiz) -> None:
    assert repr(quiz).startswith("1  Is 1 < 2? `a & b`\n   a) Yes\n   b) No\n\n2  ")
    page = quiz._repr_html_()
    assert "<b>1. Is 1 &lt; 2? <code>a &amp; b</code></b>" in page
    assert "a) Yes<br>" in page


def test_unseal_is_the_inverse_of_seal(quiz: Quiz) -> None:
    assert unseal(quiz) == CLEAR
    assert seal(unseal(quiz)) == seal(CLEAR)


def test_a_quiz_that_is_not_there_or_was_changed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"03\.json: there is no quiz"):
        Quiz.open("03", folder=tmp_path)
    sealed = seal(CLEAR)
    sealed[1]["text"] += " really"
    (tmp_path / "03.json").write_text(json.dumps(sealed), encoding="utf-8")
    with pytest.raises(ValueError, match=r"03\.json: question 2 was changed"):
        Quiz.open("03", folder=tmp_path)


def test_only_a_sound_quiz_is_sealed() -> None:
    with pytest.raises(ValueError, match="2 questions, expected 3 to 5"):
        seal(CLEAR[:2])
    both = {"text": "?", "options": [{**option, "right": True} for option in CLEAR[0]["options"]]}
    with pytest.raises(ValueError, match="question 2: 2 options, 2 of them right"):
        seal([CLEAR[0], both, CLEAR[1]])
    five = {"text": "?", "options": [*CLEAR[0]["options"], *[CLEAR[0]["options"][1]] * 3]}
    with pytest.raises(ValueError, match="question 1: 5 options"):
        seal([five, *CLEAR[:2]])


def test_the_authors_command_opens_and_seals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    clear = tmp_path / "clear.json"
    clear.write_text(json.dumps(CLEAR), encoding="utf-8")
    assert module.main(["seal", "09", str(clear)]) == 0
    assert unseal(Quiz.open("09", folder=tmp_path)) == CLEAR
    before = (tmp_path / "09.json").read_bytes()
    clear.write_text("[]", encoding="utf-8")
    assert module.main(["seal", "09", str(clear)]) == 1
    assert "0 questions" in capsys.readouterr().out
    assert (tmp_path / "09.json").read_bytes() == before


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_lessons_quiz_is_sound_and_its_answers_do_not_stand_in_one_place(path: Path) -> None:
    questions = unseal(Quiz.open(path.stem))
    assert seal(questions) == json.loads(path.read_text(encoding="utf-8"))
    places = {[option["right"] for option in q["options"]].index(True) for q in questions}
    assert len(places) > 1
    for option in (option for q in questions for option in q["options"]):
        assert len(option["explanation"].split()) >= 5
