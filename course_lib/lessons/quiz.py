"""A lesson's quiz: questions to read, answers checked offline, an explanation for every option.

    quiz = Quiz.open("00")
    quiz                            # shows the questions
    quiz.check({1: "b", 2: ""})     # says which are right, and why

Neither the notebook nor the quiz's file shows what is right: the answer is a hash, each explanation is sealed under
its own letter. That keeps eyes from slipping, not a determined reader out. Authors open and seal a quiz by

    python -m course_lib.lessons.quiz open 00 quiz.json
    python -m course_lib.lessons.quiz seal 00 quiz.json

where quiz.json is a list of {"text": ..., "options": [{"text": ..., "explanation": ..., "right": true or false}]}.
"""

import argparse
import base64
import html
import json
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).parent / "quizzes"
LETTERS = "abcd"
QUESTIONS = (3, 5)  # least, most
WIDTH = 100  # characters a line of plain text


@dataclass(frozen=True)
class Question:
    """One question: its text and options in clear, the answer's hash, each option's sealed explanation."""

    text: str
    options: tuple[str, ...]
    answer: str
    explanations: tuple[str, ...]

    def is_right(self, letter: str) -> bool:
        """Whether this letter is the answer."""
        return _digest(self.text, letter) == self.answer

    def explain(self, letter: str) -> str:
        """Why the option is right or wrong."""
        sealed = base64.b64decode(self.explanations[LETTERS.index(letter)])
        return _mix(sealed, self.text, letter).decode("utf-8")


@dataclass(frozen=True, repr=False)
class Quiz:
    """The questions of a lesson; as the last line of a cell it shows them, as HTML or as plain text."""

    questions: tuple[Question, ...]

    @classmethod
    def open(cls, lesson: str, folder: Path = FOLDER) -> "Quiz":
        """The quiz of lesson "00", "01", ... Raises ValueError naming the file if there is none or it is damaged."""
        path = folder / f"{lesson}.json"
        if not path.is_file():
            raise ValueError(f"{path}: there is no quiz of lesson {lesson!r}")
        questions = tuple(
            Question(q["text"], tuple(q["options"]), q["answer"], tuple(q["explanations"]))
            for q in json.loads(path.read_text(encoding="utf-8"))
        )
        for number, question in enumerate(questions, start=1):
            if sum(question.is_right(letter) for letter in LETTERS[: len(question.options)]) != 1:
                raise ValueError(f"{path}: question {number} was changed after it was sealed; open and seal it again")
        return cls(questions)

    def check(self, answers: Mapping[int, str]) -> None:
        """Say of every question whether its answer is right, and why. A missing or empty one is not answered yet.

        answers: by question number 1, 2, ... a letter. Raises ValueError for a question or letter that is not there.
        """
        for number in answers:
            if number not in range(1, len(self.questions) + 1):
                raise ValueError(f"question {number!r}: found {len(self.questions)} questions, numbered from 1")
        right = 0
        for number, question in enumerate(self.questions, start=1):
            letters = LETTERS[: len(question.options)]
            letter = str(answers.get(number) or "").strip().lower()
            if not letter:
                print(f"{number}  not answered yet")
                continue
            if letter not in tuple(letters):
                raise ValueError(f"question {number}: found {letter!r}, expected a letter from a to {letters[-1]}")
            right += question.is_right(letter)
            verdict = "right" if question.is_right(letter) else "not quite"
            print(_wrap(f"{number}  {letter}, {verdict}. {question.explain(letter)}", "   "))
        print(f"{right} of {len(self.questions)} right")

    def __repr__(self) -> str:
        lines = []
        for number, question in enumerate(self.questions, start=1):
            lines.append(_wrap(f"{number}  {question.text}", "   "))
            lines += [_wrap(f"   {letter}) {option}", "      ") for letter, option in zip(LETTERS, question.options)]
            lines.append("")
        return "\n".join(lines).rstrip()

    def _repr_html_(self) -> str:
        parts = []
        for number, question in enumerate(self.questions, start=1):
            options = "<br>\n".join(f"{k}) {_to_html(option)}" for k, option in zip(LETTERS, question.options))
            parts.append(f"<p><b>{number}. {_to_html(question.text)}</b></p>\n<p>{options}</p>")
        return "\n".join(parts)


def seal(questions: Sequence[Mapping]) -> list[dict]:
    """Questions in clear, as the module says, to what a quiz's file holds.

    Raises ValueError naming the question that has too few or too many options, or not one right one.
    """
    if not QUESTIONS[0] <= len(questions) <= QUESTIONS[1]:
        raise ValueError(f"{len(questions)} questions, expected {QUESTIONS[0]} to {QUESTIONS[1]}")
    sealed = []
    for number, question in enumerate(questions, start=1):
        text, options = question["text"], question["options"]
        right = [letter for letter, option in zip(LETTERS, options) if option["right"]]
        if not 2 <= len(options) <= len(LETTERS) or len(right) != 1:
            raise ValueError(
                f"question {number}: {len(options)} options, {len(right)} of them right; expected 2 to 4 and one"
            )
        explanations = [
            base64.b64encode(_mix(option["explanation"].encode("utf-8"), text, letter)).decode("ascii")
            for letter, option in zip(LETTERS, options)
        ]
        sealed.append(
            {
                "text": text,
                "options": [option["text"] for option in options],
                "answer": _digest(text, right[0]),
                "explanations": explanations,
            }
        )
    return sealed


def unseal(quiz: Quiz) -> list[dict]:
    """The inverse of `seal`, for authors: a quiz as questions in clear."""
    return [
        {
            "text": question.text,
            "options": [
                {"text": option, "explanation": question.explain(letter), "right": question.is_right(letter)}
                for letter, option in zip(LETTERS, question.options)
            ],
        }
        for question in quiz.questions
    ]


def _digest(text: str, letter: str) -> str:
    """Hash of an answer; the question's text is the salt, so the same letter looks different in each."""
    return sha256(f"{text}\n{letter}".encode()).hexdigest()[:16]


def _mix(data: bytes, text: str, letter: str) -> bytes:
    """Exclusive-or with bytes made from the question and the letter; applied twice it gives the data back."""
    stream = b""
    while len(stream) < len(data):
        stream += sha256(f"{text}\n{letter}\n{len(stream)}".encode()).digest()
    return bytes(a ^ b for a, b in zip(data, stream))


def _to_html(text: str) -> str:
    """Escaped, with `code` in its own font."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def _wrap(text: str, indent: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent)


def main(argv: Sequence[str] | None = None) -> int:
    """The authors' command line; 1 when a quiz is not in order, else 0."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.lessons.quiz", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("open", "seal"), help="write the quiz in clear to FILE, or seal FILE")
    parser.add_argument("lesson", help="its number: 00")
    parser.add_argument("file", type=Path, metavar="FILE", help="the quiz in clear; not to be committed")
    arguments = parser.parse_args(argv)
    try:
        if arguments.action == "open":
            target, content = arguments.file, unseal(Quiz.open(arguments.lesson))
        else:
            target = FOLDER / f"{arguments.lesson}.json"
            content = seal(json.loads(arguments.file.read_text(encoding="utf-8")))
    except (ValueError, KeyError) as error:
        print(error)
        return 1
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    temporary.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
