import json
import re
import subprocess
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import matplotlib.backends.backend_agg
import pycocotools.mask
import pytest
import torch
import torchvision

from course_lib import doctor
from course_lib.doctor import Finding


def by_name(findings: Finding | list[Finding]) -> dict[str, Finding]:
    return {f.check: f for f in (findings if isinstance(findings, list) else [findings])}


def test_this_environment_has_no_fault_in_what_the_tests_need() -> None:
    findings = by_name(doctor.run_doctor())
    for name in (
        "Python",
        "torch",
        "numpy",
        "nms",
        "roi_align",
        "convolution",
        "run-length masks",
        "drawing",
        "GPU",
    ):
        assert findings[name].status == "ok", findings[name]
    assert {"threads", "memory", "disk", "kernel", "bf16 autocast", "bf16 hardware"} <= set(findings)


def test_every_declared_dependency_is_looked_at() -> None:
    looked_at = set(by_name(doctor.check_packages()))
    needs = [need for need in metadata.requires("course-lib") if not re.search(r'extra == "(dev|onnx)"', need)]
    assert {need.split("<")[0].split(">")[0] for need in needs} <= looked_at
    assert {"onnx packages", "dev packages"} <= looked_at


def test_a_raising_check_becomes_a_fault_and_hides_nothing() -> None:
    def broken() -> Finding:
        raise RuntimeError("operator does not exist")

    findings = doctor.run_doctor([("torch", broken), ("fine", lambda: Finding("fine", "ok", "yes"))])
    assert [(f.check, f.status) for f in findings] == [("torch", "fault"), ("fine", "ok")]
    assert "RuntimeError: operator does not exist" in findings[0].found
    assert "pip install" in findings[0].advice


@pytest.mark.parametrize(
    ("package", "version", "status"),
    [
        ("torch", "2.0.1", "fault"),
        ("torch", "3.0.0", "fault"),
        ("torch", "2.11.0+cpu", "ok"),
        ("torch", "2.12.0rc1", "ok"),
        ("torch", None, "fault"),
        ("jupyterlab", None, "warning"),
        ("jupyterlab", "3.6.0", "fault"),
    ],
)
def test_versions_are_held_against_the_bounds(
    monkeypatch: pytest.MonkeyPatch, package: str, version: str | None, status: str
) -> None:
    real = metadata.version

    def fake(name: str) -> str:
        if name != package:
            return real(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", fake)
    found = by_name(doctor.check_packages())[package]
    assert found.status == status
    assert (found.advice == "") == (status == "ok")
    assert (version or "missing") in found.found


@pytest.mark.parametrize(
    ("extra", "missing", "advice"),
    [("dev", ("ruff", "nbgrader"), "Only to work on the course"), ("onnx", ("onnx",), "Only to export a detector")],
)
def test_what_is_missing_of_an_optional_extra_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, extra: str, missing: tuple[str, ...], advice: str
) -> None:
    real = metadata.version

    def fake(name: str) -> str:
        if name in missing:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", fake)
    found = by_name(doctor.check_packages())[f"{extra} packages"]
    assert found.status == "warning"
    assert all(f"{name} missing" in found.found for name in missing)
    assert found.advice.startswith(advice)
    assert found.advice.endswith(f'".[{extra}]"')


def test_an_old_python_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version", "3.9.18 (main)")
    assert doctor.check_python().status == "fault"


def test_a_package_that_is_not_installed_as_course_lib_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGE", "course-lib-is-not-installed")
    findings = doctor.run_doctor([("packages", doctor.check_packages)])
    assert findings[0].status == "fault"
    assert "PackageNotFoundError" in findings[0].found


def test_ops_with_wrong_answers_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.ops, "nms", lambda boxes, scores, threshold: torch.arange(len(boxes)))
    monkeypatch.setattr(torchvision.ops, "roi_align", lambda *args, **kwargs: torch.tensor(0.0))
    findings = by_name(doctor.check_torch_ops())
    assert findings["nms"].status == "fault"
    assert "expected [0, 2]" in findings["nms"].found
    assert findings["roi_align"].status == "fault"
    assert findings["convolution"].status == "ok"


@pytest.mark.parametrize("wrong", [1.5, float("nan")])
def test_a_wrong_bf16_convolution_is_a_fault(monkeypatch: pytest.MonkeyPatch, wrong: float) -> None:
    real = torch.nn.functional.conv2d

    def scaled(image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        out = real(image, weight)
        return out * wrong if torch.is_autocast_enabled("cpu") else out

    monkeypatch.setattr(torch.nn.functional, "conv2d", scaled)
    found = by_name(doctor.check_bf16())["bf16 autocast"]
    assert found.status == "fault"
    assert "--precision fp32" in found.advice


@pytest.mark.parametrize(
    ("capabilities", "words"),
    [
        ({"avx512_bf16": True}, "in the processor (avx512_bf16)"),
        ({"avx2": True}, "not in the processor"),
        ({}, "not in"),
    ],
)
def test_bf16_hardware_is_reported(monkeypatch: pytest.MonkeyPatch, capabilities: dict, words: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    found = by_name(doctor.check_bf16())["bf16 hardware"]
    assert found.status == "ok"
    assert found.found.startswith(words)


def test_a_broken_rle_codec_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pycocotools.mask, "area", lambda rle: 8)
    assert doctor.check_rle().status == "fault"


def test_no_picture_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    canvas = matplotlib.backends.backend_agg.FigureCanvasAgg
    monkeypatch.setattr(canvas, "print_png", lambda self, stream: None)
    assert doctor.check_drawing().status == "fault"


@pytest.mark.parametrize(
    ("threads", "cores", "setting", "status"),
    [
        (2, 2, None, "ok"),
        (2, 4, None, "ok"),
        (1, 2, "1", "warning"),
        (64, 2, None, "warning"),
        (2, 2, "2", "ok"),
    ],
)
def test_threads_against_cores(
    monkeypatch: pytest.MonkeyPatch, threads: int, cores: int, setting: str | None, status: str
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(doctor, "cores_allowed", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if setting:
        monkeypatch.setenv("OMP_NUM_THREADS", setting)
    found = doctor.check_threads()
    assert found.status == status
    assert ("OMP_NUM_THREADS" in found.advice) == (status == "warning")


@pytest.mark.parametrize(
    ("free", "status"), [(8 * 2**30, "ok"), (2**30, "warning"), (100 * 2**20, "fault"), (None, "ok")]
)
def test_memory(monkeypatch: pytest.MonkeyPatch, free: int | None, status: str) -> None:
    monkeypatch.setattr(doctor, "memory_available", lambda: free)
    assert doctor.check_memory().status == status


@pytest.mark.parametrize(("free", "status"), [(2**40, "ok"), (2**30, "warning"), (2**20, "fault")])
def test_disk(monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    usage = namedtuple("usage", "total used free")(2**41, 0, free)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert doctor.check_disk().status == status


def test_a_folder_that_cannot_be_written_to_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    found = doctor.check_disk()
    assert (found.status, str(Path.cwd()) in found.found) == ("fault", True)


def write_kernel(folder: Path, interpreter: str) -> None:
    folder = folder / "kernels" / "python3"
    folder.mkdir(parents=True)
    spec = {
        "argv": [interpreter, "-m", "ipykernel_launcher"],
        "display_name": "Python 3",
        "language": "python",
    }
    (folder / "kernel.json").write_text(json.dumps(spec))


@pytest.mark.parametrize("interpreter", ["python", "python3", sys.executable])
def test_a_kernel_of_this_python_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interpreter: str) -> None:
    write_kernel(tmp_path, interpreter)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))  # searched before every other folder
    assert by_name(doctor.check_kernel())["kernel"].status == "ok"


def test_a_kernel_of_another_python_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kernel(tmp_path, "/opt/other/bin/python3")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    answer = subprocess.CompletedProcess([], 0, stdout=f"{tmp_path}\n")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *args, **kwargs: answer)
    found = by_name(doctor.check_kernel())["kernel"]
    assert found.status == "fault"
    assert "/opt/other/bin/python3" in found.found
    assert "ipykernel install --sys-prefix" in found.advice


def test_a_kernel_whose_python_is_gone_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kernel(tmp_path, str(tmp_path / "no-python-here"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert by_name(doctor.check_kernel())["kernel"].status == "fault"


def test_a_jupyter_command_of_another_python_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: str(tmp_path / "jupyter"))
    found = by_name(doctor.check_kernel())["jupyter command"]
    assert found.status == "warning"
    assert "-m jupyterlab" in found.advice


def test_no_jupyter_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jupyter_client.kernelspec", None)
    found = by_name(doctor.check_kernel())["kernel"]
    assert (found.status, "[lab]" in found.advice) == ("warning", True)


@pytest.mark.parametrize(
    ("cuda", "mps", "words"), [(True, False, "CUDA: Card"), (False, True, "MPS"), (False, False, "none")]
)
def test_gpu(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, words: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    found = doctor.check_gpu()
    assert found.status == "ok"
    assert found.found.startswith(words)


FAULTY = [
    Finding("Python", "ok", "3.11.7"),
    Finding("memory", "warning", "1.0 GiB available", "Close other programs."),
    Finding("torch", "fault", "ImportError: \u2013 no\nsuch module", "Reinstall."),
]


def test_the_table_is_ascii_and_says_what_to_do() -> None:
    text = doctor.format_findings(FAULTY)
    assert text.isascii()
    lines = text.splitlines()
    assert lines[0] == "ok      Python  3.11.7"
    assert lines[1] == "warning memory  1.0 GiB available"
    assert lines[2] == "                -> Close other programs."
    assert lines[3] == "fault   torch   ImportError: \\u2013 no such module"
    assert lines[-1] == "1 fault, 1 warning."
    assert doctor.format_findings(FAULTY[:1]).endswith("ready for the course.")


def test_exit_code_and_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.exit_code(FAULTY) == 1
    assert doctor.exit_code(FAULTY[:2]) == 0
    monkeypatch.setattr(doctor, "run_doctor", lambda: FAULTY)
    assert doctor.main(["--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert answer["findings"][1]["advice"] == "Close other programs."
    assert doctor.main([]) == 1
    assert "1 fault" in capsys.readouterr().out
