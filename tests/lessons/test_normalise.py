import json
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_lib.lessons import anatomy, execute
from course_lib.lessons import normalise as module
from course_lib.lessons.normalise import (
    WIDGET_VIEW,
    differences,
    faults,
    find_notebooks,
    images,
    normalise,
    normalise_file,
    read_notebook,
    render,
    write_notebook,
)
from tests.lessons.lesson import lesson, picture, png, stream


def ids(notebook: NotebookNode) -> list[str]:
    return [cell.id for cell in notebook.cells]


def with_outputs(*outputs: NotebookNode, source: str = "f()") -> NotebookNode:
    return new_notebook(cells=[new_code_cell(source, execution_count=1, outputs=list(outputs))])


def test_a_good_lesson_is_valid_and_without_faults() -> None:
    normal = normalise(lesson(), "00")
    nbformat.validate(normal)
    assert faults(normal) == []
    assert ids(normal)[:3] == ["00-01", "00-02", "00-03"]


def test_normal_form_is_a_fixed_point_and_a_copy() -> None:
    notebook = lesson()
    before = render(notebook)
    once = normalise(notebook, "00")
    assert render(notebook) == before
    assert render(normalise(once, "00")) == render(once)


def test_cells_keep_their_ids_when_others_come_go_and_move() -> None:
    first = normalise(new_notebook(cells=[new_markdown_cell(text) for text in "abcd"]), "03")
    assert ids(first) == ["03-01", "03-02", "03-03", "03-04"]
    a, _, c, d = first.cells
    changed = new_notebook(cells=[new_markdown_cell("new"), d, a, c, new_markdown_cell("newer")])
    assert ids(normalise(changed, "03")) == ["03-05", "03-04", "03-01", "03-03", "03-06"]


def test_a_copied_cell_gets_an_id_of_its_own() -> None:
    notebook = new_notebook()
    notebook.cells = [new_markdown_cell(text, id="03-01") for text in "ab"]
    assert ids(normalise(notebook, "03")) == ["03-01", "03-02"]
    assert ids(normalise(notebook, "04")) == ["04-01", "04-02"]  # both copied from another lesson


@given(st.lists(st.sampled_from(["03-01", "03-02", "03-17", "04-01", "8a7c", "", "03-x"]), max_size=8))
def test_ids_are_unique_valid_and_stable(names: list[str]) -> None:
    notebook = new_notebook()
    notebook.cells = [nbformat.from_dict({**new_markdown_cell("x"), "id": name}) for name in names]
    normal = normalise(notebook, "03")
    assert len(set(ids(normal))) == len(names)
    assert all(re.fullmatch(r"03-\d\d", name) for name in ids(normal))
    assert ids(normalise(normal, "03")) == ids(normal)


def test_volatile_metadata_goes_and_the_rest_stays() -> None:
    grader = {"grade_id": "a", "grade": True}
    metadata = {"execution": {"iopub.status.busy": "now"}, "collapsed": True, "tags": ["x"], "nbgrader": grader}
    notebook = new_notebook(
        metadata={
            "kernelspec": {"name": "my-venv", "display_name": "My venv", "language": "python"},
            "language_info": {"name": "python", "version": "3.13.1"},
            "widgets": {"state": {}},
        },
        cells=[new_code_cell("1", metadata=metadata), new_markdown_cell("a", metadata={"tags": []})],
    )
    normal = normalise(notebook, "00")
    assert normal.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert [cell.metadata for cell in normal.cells] == [{"nbgrader": grader, "tags": ["x"]}, {}]


def test_execution_counts_are_sequential_and_an_unexecuted_cell_stays_so() -> None:
    result = new_output("execute_result", {"text/plain": "1"}, execution_count=7)
    cells = [new_code_cell("1", execution_count=count) for count in (7, None, 3)]
    cells[0].outputs = [result]
    normal = normalise(new_notebook(cells=cells), "00")
    assert [cell.execution_count for cell in normal.cells] == [1, None, 2]
    assert normal.cells[0].outputs[0].execution_count == 1


def outputs_of(*outputs: NotebookNode) -> list[NotebookNode]:
    return normalise(with_outputs(*outputs), "00").cells[0].outputs


def test_streams_are_merged_and_progress_bars_go() -> None:
    bar = "\r 50%|#####     | 5/10 [00:01<00:01,  4.5it/s]\r100%|##########| 10/10 [00:02<00:00,  4.6it/s]\n"
    found = outputs_of(
        stream("a\n"), stream(bar, "stderr"), stream("b\nc\rd\n"), stream("3it [00:00, 9it/s]\n", "stderr")
    )
    assert [(o.name, o.text) for o in found] == [("stdout", "a\nb\nd\n")]


def test_other_words_on_stderr_stay_to_be_reported() -> None:
    notebook = normalise(
        with_outputs(stream("  7%|# | 1/14 [00:01<00:02, 1.0s/it]\nUserWarning: odd\n", "stderr")), "00"
    )
    assert notebook.cells[0].outputs[0].text == "UserWarning: odd\n"
    assert faults(notebook) == ["cell 00-01 ('f()') writes to stderr: UserWarning: odd"]


def test_streams_around_a_picture_are_not_merged() -> None:
    assert [o.output_type for o in outputs_of(stream("a\n"), picture(), stream("b\n"))] == [
        "stream",
        "display_data",
        "stream",
    ]


def test_widget_views_go() -> None:
    view = {WIDGET_VIEW: {"model_id": "5f"}, "text/plain": "interactive(...)"}
    assert outputs_of(new_output("display_data", view), stream("a\n")) == [stream("a\n")]


def test_a_pictures_metadata_stay_and_its_stand_in_loses_its_address() -> None:
    data = {"image/png": png()[:40] + "\n" + png()[40:] + "\n", "text/plain": "<Image at 0x7f12ab34cd>"}
    metadata = {"image/png": {"alt": "Three boxes"}, "isolated": True}
    (output,) = outputs_of(new_output("display_data", data, metadata=metadata))
    assert output.data == {"image/png": png(), "text/plain": "<Image>"}
    assert output.metadata == {"image/png": {"alt": "Three boxes"}}


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (new_output("error", ename="NameError", evalue="x", traceback=[]), "ended in NameError: x"),
        (new_output("execute_result", {"text/plain": "<Axes at 0x7f12ab34cd>"}), "an object's address: <Axes at 0x"),
        (stream("saved to /home/ada/run\n"), "a path of one machine: /home/ada/run"),
        (stream("saved to /Users/ada/run\n"), "/Users/ada/run"),
        (stream("saved to C:\\Users\\ada\n"), "C:\\Users\\ada"),
        (stream("'/tmp/x'\n"), "/tmp/x"),
        (stream("venv/lib/site-packages/torch/x.py\n"), "venv/lib/site-packages/torch/x.py"),
        (stream(f"{Path(module.__file__).parents[2]}\n"), "a path of one machine"),
        (picture(data="bm90IGEgcGljdHVyZQ=="), "a picture that does not decode"),
        (picture(data=png()[:60]), "a picture that does not decode"),
        (new_output("display_data", {"text/html": '<img src="figure.png">'}), "a picture that is not within the file"),
    ],
)
def test_what_only_the_author_can_put_right_is_reported(output: NotebookNode, words: str) -> None:
    found = faults(normalise(with_outputs(output), "00"))
    assert len(found) == 1
    assert found[0].startswith("cell 00-01 ('f()')")
    assert words in found[0]


@pytest.mark.parametrize(
    "text",
    ["runs/tour/report.html", "https://example.org/home/x", "a/tmp/b", "~/data", "loss at 0.25", "3/4 of /", "at 0x7f"],
)
def test_ordinary_text_is_no_fault(text: str) -> None:
    assert faults(normalise(with_outputs(stream(text + "\n"), source=f"print({text!r})"), "00")) == []


def test_a_path_in_a_source_is_a_fault_but_base64_that_looks_like_one_is_not() -> None:
    assert len(faults(normalise(with_outputs(source="open('/home/ada/x')"), "00"))) == 1
    html = f'<img alt="Three boxes here" src="data:image/png;base64,{png()}">'
    assert faults(normalise(with_outputs(new_output("display_data", {"text/html": html})), "00")) == []


def test_images_are_found_with_their_alt_text() -> None:
    good, bad = (f"src='data:image/png;base64,{data}'" for data in (png("L"), "AA=="))
    html = f'<p><IMG alt=\'a "b" c\' {good}><img alt="" {bad}>'
    both = new_output("display_data", {"text/html": html, "image/png": png()}, metadata={"image/png": {"alt": "d e f"}})
    found = list(images(both))
    assert [alt for alt, _ in found] == ["d e f", 'a "b" c', ""]
    assert [bool(wrong) for _, wrong in found] == [False, False, True]
    assert list(images(stream("a"))) == []


def test_differences_say_where_and_what() -> None:
    found = {"cells": [{"id": "a", "n": 9}], "minor": 4}
    normal = {"cells": [{"id": "b", "n": 9}], "minor": 5, "x": 1}
    assert differences(found, normal) == [
        "cells[0].id is 'a', normal is 'b'",
        "minor is 4, normal is 5",
        "x is None, normal is 1",
    ]
    assert differences([1], [1, 2], "cells") == ["cells is [1], normal is [1, 2]"]
    assert differences(normal, normal) == []


def test_a_file_is_put_right_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "07_masks.ipynb"
    write_notebook(lesson(), path)
    untouched = path.read_bytes()
    assert module.main(["--check", str(tmp_path)]) == 1
    assert path.read_bytes() == untouched
    assert f"{path}: cells[0].id is " in capsys.readouterr().out
    assert module.main([str(path)]) == 0
    assert module.main(["--check", str(path)]) == 0
    assert read_notebook(path).cells[0].id == "07-01"
    assert b"\r" not in path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert capsys.readouterr().out == ""


def test_another_json_layout_is_not_normal(tmp_path: Path) -> None:
    path = tmp_path / "00_tour.ipynb"
    path.write_text(json.dumps(normalise(lesson(), "00"), indent=4) + "\n", encoding="utf-8")
    assert normalise_file(path, check=True) == ["the JSON is not laid out as nbformat lays it out"]
    assert normalise_file(path) == []
    assert normalise_file(path, check=True) == []


def test_a_large_file_and_an_invalid_one_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "00_tour.ipynb"
    write_notebook(normalise(lesson(), "00"), path)
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    assert "at most 1,000 are allowed" in normalise_file(path, check=True)[0]
    monkeypatch.undo()
    notebook = normalise(lesson(), "00")
    notebook.cells[0].metadata["tags"] = "not a list"
    path.write_text(render(notebook), encoding="utf-8")
    assert any(line.startswith("not a valid notebook") for line in normalise_file(path))


@pytest.mark.parametrize("text", ["", "{}", "[1, 2", '{"cells": 3, "nbformat": 4}'])
def test_what_is_no_notebook_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "00_tour.ipynb"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"00_tour\.ipynb"):
        normalise_file(path)
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("command", [module.main, anatomy.main, execute.main])
def test_every_command_reports_a_file_that_is_no_notebook(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: Callable
) -> None:
    path = tmp_path / "00_tour.ipynb"
    path.write_text("{}", encoding="utf-8")
    assert command([str(path)]) == 1
    assert f"{path}: not a notebook" in capsys.readouterr().out
    assert command([str(tmp_path / "nowhere")]) == 1
    assert "nowhere: expected a notebook" in capsys.readouterr().out


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "00_tour.ipynb"
    write_notebook(lesson(), path)
    before = path.read_bytes()

    def full_disk(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space"):
        normalise_file(path)
    assert path.read_bytes() == before


def test_find_notebooks(tmp_path: Path) -> None:
    for name in ("01_b.ipynb", "00_a.ipynb", "notes.md"):
        (tmp_path / name).touch()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "00_a-checkpoint.ipynb").touch()
    assert [path.name for path in find_notebooks([tmp_path])] == ["00_a.ipynb", "01_b.ipynb"]
    assert find_notebooks([tmp_path / "01_b.ipynb"]) == [tmp_path / "01_b.ipynb"]
    for wrong in ("nowhere", "notes.md"):
        with pytest.raises(ValueError, match=wrong):
            find_notebooks([tmp_path / wrong])


def test_a_notebook_of_an_older_minor_format_gets_ids(tmp_path: Path) -> None:
    notebook = lesson()
    for cell in notebook.cells:
        cell.pop("id")
    notebook.nbformat_minor = 2
    path = tmp_path / "00_old.ipynb"
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    assert normalise_file(path) == []
    assert read_notebook(path).nbformat_minor == 5
