"""`course doctor`: is this machine ready for the course, and what to do where it is not.

Every check tries the thing itself (an op is run, a picture is drawn) rather than only looking at a version.
A check that raises becomes a fault with its message, so one broken package never hides the other findings.
Nothing here needs the network, and only the standard library is imported at the top: the doctor must start on
a broken installation.

Also `python -m course_lib.doctor [--json]`, for when the `course` command itself does not start.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Literal

from course_lib.machine import cores_allowed, memory_available

PACKAGE = "course-lib"
PIP = f'"{sys.executable}" -m pip'
OPTIONAL = {"onnx": "to export a detector as ONNX", "dev": "to work on the course itself"}  # extras, and what for
GIB = 2**30
MEMORY_WANTED, MEMORY_NEEDED = 2 * GIB, GIB // 2
DISK_WANTED, DISK_NEEDED = 2 * GIB, GIB // 5

Status = Literal["ok", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """What one check found: its status, the observation in words, and the advice (empty when all is well)."""

    check: str
    status: Status
    found: str
    advice: str = ""


def check_python() -> Finding:
    """The interpreter is as new as pyproject's `requires-python` asks."""
    from packaging.specifiers import SpecifierSet

    bounds = metadata.metadata(PACKAGE)["Requires-Python"]
    found = f"{sys.version.split()[0]} ({bounds}), {sys.executable}"
    if SpecifierSet(bounds).contains(sys.version.split()[0], prereleases=True):
        return Finding("Python", "ok", found)
    return Finding("Python", "fault", found, f"Install a Python {bounds} and make the environment again.")


def check_packages() -> list[Finding]:
    """Every package's version lies within pyproject's bounds, read from the installed metadata of course-lib.

    A finding for each run-time package (missing: fault) and `lab` package (missing: warning), one each for `onnx` and
    `dev`.
    """
    from packaging.requirements import Requirement

    findings: list[Finding] = []
    needs = [Requirement(text) for text in metadata.requires(PACKAGE) or []]
    for extra, missing_is in (("", "fault"), ("lab", "warning"), ("onnx", "warning"), ("dev", "warning")):
        group = [need for need in needs if _extra(need) == extra and need.name != PACKAGE]
        found = [_package(need, missing_is, extra) for need in group]
        if extra in OPTIONAL and found:
            found = [_summary(extra, found)]
        findings += found
    return findings


def _extra(need) -> str:
    """The extra that a requirement belongs to, '' for the run-time ones."""
    match = re.search(r'extra\s*==\s*"([^"]+)"', str(need.marker or ""))
    return match[1] if match else ""


def _package(need, missing_is: Status, extra: str) -> Finding:
    """One package's version against its bounds."""
    bounds = ",".join(sorted((str(part) for part in need.specifier), reverse=True))
    try:
        version = metadata.version(need.name)
    except metadata.PackageNotFoundError:
        target = f".[{extra}]" if extra else "."
        return Finding(need.name, missing_is, f"missing ({bounds})", f'{PIP} install -e "{target}"')
    found = f"{version} ({bounds})"
    if need.specifier.contains(version, prereleases=True):
        return Finding(need.name, "ok", found)
    return Finding(need.name, "fault", found, f'{PIP} install "{need.name}{bounds}"')


def _summary(extra: str, findings: Sequence[Finding]) -> Finding:
    """Many findings of an optional extra as one; the packages that are not well are named."""
    bad = [f for f in findings if f.status != "ok"]
    if not bad:
        return Finding(f"{extra} packages", "ok", f"all {len(findings)} within their bounds")
    found = "; ".join(f"{f.check} {f.found}" for f in bad)
    return Finding(f"{extra} packages", "warning", found, f'Only {OPTIONAL[extra]}: {PIP} install -e ".[{extra}]"')


def check_torch_ops() -> list[Finding]:
    """NMS, RoIAlign, a convolution forwards and backwards: each gives the answer worked out by hand."""
    import torch
    from torchvision import ops

    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    kept = ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()

    ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # the value is the column
    roi = torch.tensor([[0.0, 0, 0, 4, 4]])
    mean = ops.roi_align(ramp, roi, output_size=1, sampling_ratio=2, aligned=True).item()

    weight = torch.ones(1, 1, 3, 3, requires_grad=True)
    out = torch.nn.functional.conv2d(torch.ones(1, 1, 4, 4), weight)  # (1, 1, 2, 2), each 9
    out.sum().backward()

    return [
        _compare("nms", kept, [0, 2], "torchvision"),
        _compare("roi_align", mean, 1.5, "torchvision"),
        _compare("convolution", [out.sum().item(), weight.grad.sum().item()], [36.0, 36.0], "torch"),
    ]


def _compare(check: str, found: object, expected: object, package: str) -> Finding:
    """Ok when an op's answer is the one that was worked out by hand."""
    if found == expected:
        return Finding(check, "ok", "runs, right answer")
    advice = f"{PIP} install --force-reinstall {package}"
    return Finding(check, "fault", f"gave {found}, expected {expected}", advice)


def check_bf16() -> list[Finding]:
    """A convolution under bf16 autocast agrees with fp32; whether the processor has bf16 instructions."""
    import torch

    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 16, 16, 16, generator=generator)
    weight = torch.randn(16, 16, 3, 3, generator=generator)
    exact = torch.nn.functional.conv2d(image, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = torch.nn.functional.conv2d(image, weight).float()
    error = ((rough - exact).abs().max() / exact.abs().max()).item()
    if error < 0.02:  # false for NaN too; bf16 keeps 8 bits, so 2**-8 of the largest value is usual
        agreement = Finding("bf16 autocast", "ok", f"runs, {error:.1%} from fp32")
    else:
        advice = "Train with --precision fp32."
        agreement = Finding("bf16 autocast", "fault", f"{error:.1%} from fp32, expected under 2%", advice)

    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    names = [name for name in ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16") if capabilities.get(name)]
    found = f"in the processor ({', '.join(names)})" if names else "not in the processor: training uses fp32"
    return [agreement, Finding("bf16 hardware", "ok", found)]


def check_rle() -> Finding:
    """Pycocotools encodes a mask to run lengths and back."""
    import numpy as np
    from pycocotools import mask

    square = np.zeros((5, 7), np.uint8, order="F")
    square[1:4, 2:5] = 1
    rle = mask.encode(square)
    if int(mask.area(rle)) == 9 and np.array_equal(mask.decode(rle), square):
        return Finding("run-length masks", "ok", "encode and decode agree")
    advice = f"{PIP} install --force-reinstall pycocotools"
    return Finding("run-length masks", "fault", "decode(encode(mask)) is another mask", advice)


def check_drawing() -> Finding:
    """Matplotlib draws a figure into memory, without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([0, 1])
    stream = BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    if stream.getvalue().startswith(b"\x89PNG"):
        return Finding("drawing", "ok", f"a PNG of {len(stream.getvalue())} bytes")
    return Finding("drawing", "fault", "no PNG came out", f"{PIP} install --force-reinstall matplotlib")


def check_threads() -> Finding:
    """Torch uses as many threads as there are cores for it."""
    import torch

    threads, cores = torch.get_num_threads(), cores_allowed()
    setting = os.environ.get("OMP_NUM_THREADS")
    found = f"torch uses {threads}, {cores} cores allowed, OMP_NUM_THREADS {setting or 'not set'}"
    if threads > cores:
        advice = f"Threads that fight over a core are slow: set OMP_NUM_THREADS={cores} before you start."
        return Finding("threads", "warning", found, advice)
    if threads < cores and setting:
        advice = f"Unset OMP_NUM_THREADS, or set it to {cores}: training would use part of the machine."
        return Finding("threads", "warning", found, advice)
    return Finding("threads", "ok", found)


def check_memory() -> Finding:
    """Enough memory is free to train the small models."""
    free = memory_available()
    if free is None:
        return Finding("memory", "ok", "this system does not say how much is free")
    return _room("memory", free, MEMORY_WANTED, MEMORY_NEEDED, "Close other programs before you train.")


def check_disk() -> Finding:
    """The current folder can be written to and has room for data and runs."""
    here = Path.cwd()
    if not os.access(here, os.W_OK):
        advice = "Change to a folder of your own, or give --out one."
        return Finding("disk", "fault", f"{here} cannot be written to", advice)
    advice = "Free some space, or give --out a folder on another disk."
    return _room("disk", shutil.disk_usage(here).free, DISK_WANTED, DISK_NEEDED, advice)


def _room(check: str, free: int, wanted: int, needed: int, advice: str) -> Finding:
    """Bytes that are free against those that are wanted (warning below) and needed (fault below)."""
    found = f"{free / GIB:.1f} GiB available"
    if free >= wanted:
        return Finding(check, "ok", found)
    found += f", {wanted / GIB:.1f} wanted"
    return Finding(check, "warning" if free >= needed else "fault", found, advice)


def check_kernel() -> list[Finding]:
    """The notebooks' kernel and the `jupyter` command belong to this Python.

    "Installed, but `import` fails in the notebook" nearly always means that one of them is another Python's.
    """
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        return [Finding("kernel", "warning", "Jupyter is not installed", f'{PIP} install -e ".[lab]"')]
    install = f'"{sys.executable}" -m ipykernel install --sys-prefix'
    findings = []
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        findings.append(Finding("kernel", "fault", "no kernel named python3", install))
    else:
        prefix = _prefix_of(spec.argv[0])
        if prefix is not None and Path(prefix).samefile(sys.prefix):
            findings.append(Finding("kernel", "ok", f"python3 is this Python ({sys.prefix})"))
        else:
            found = f"python3 starts {spec.argv[0]}, which is not this Python ({spec.resource_dir})"
            findings.append(Finding("kernel", "fault", found, f"Remove that folder, then {install}"))

    command = shutil.which("jupyter")
    if command and not Path(command).parent.samefile(sysconfig.get_path("scripts")):
        advice = f'Start JupyterLab with "{sys.executable}" -m jupyterlab (`make lab` does).'
        found = f"`jupyter` is {command}, another Python's"
        findings.append(Finding("jupyter command", "warning", found, advice))
    return findings


def _prefix_of(interpreter: str) -> str | None:
    """`sys.prefix` of the interpreter that a kernel specification names; None when it does not start.

    Jupyter itself replaces the bare names below by its own interpreter. The prefix is asked for, because the
    `python` of every virtual environment is a link to the same file.
    """
    version = sys.version_info
    if interpreter in ("python", f"python{version.major}", f"python{version.major}.{version.minor}"):
        return sys.prefix
    command = [interpreter, "-c", "import sys; print(sys.prefix)"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()


def check_gpu() -> Finding:
    """Whether torch sees a GPU. None is needed."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old driver warns; the course then runs on the CPU
        if torch.cuda.is_available():
            return Finding("GPU", "ok", f"CUDA: {torch.cuda.get_device_name()}")
    if torch.backends.mps.is_available():
        return Finding("GPU", "ok", "MPS (Apple)")
    return Finding("GPU", "ok", "none; none is needed")


REINSTALL = f'{PIP} install -e ".[lab]" (with --force-reinstall if that changes nothing)'
CHECKS: tuple[tuple[str, Callable[[], Finding | list[Finding]]], ...] = (
    ("Python", check_python),
    ("packages", check_packages),
    ("torch", check_torch_ops),
    ("bf16", check_bf16),
    ("run-length masks", check_rle),
    ("drawing", check_drawing),
    ("threads", check_threads),
    ("memory", check_memory),
    ("disk", check_disk),
    ("kernel", check_kernel),
    ("GPU", check_gpu),
)


def run_doctor(checks: Sequence[tuple[str, Callable[[], Finding | list[Finding]]]] = CHECKS) -> list[Finding]:
    """Run every check, in order; one that raises becomes a fault that carries its message."""
    findings: list[Finding] = []
    for name, check in checks:
        try:
            found = check()
        except Exception as error:
            found = Finding(name, "fault", f"{type(error).__name__}: {error}", REINSTALL)
        findings += found if isinstance(found, list) else [found]
    return findings


def format_findings(findings: Sequence[Finding]) -> str:
    """The findings as a plain table, advice under each that needs some, and a closing line. ASCII only."""
    width = max((len(f.check) for f in findings), default=0)
    lines = []
    for f in findings:
        lines.append(f"{f.status:<8}{f.check:<{width}}  {' '.join(f.found.split())}")
        if f.advice:
            lines.append(f"{'':<8}{'':<{width}}  -> {f.advice}")
    counts = [f"{n} {word}{'s' * (n != 1)}" for word in ("fault", "warning") if (n := _count(findings, word))]
    lines += ["", ", ".join(counts) + "." if counts else "All well: this machine is ready for the course."]
    return "\n".join(lines).encode("ascii", "backslashreplace").decode("ascii")


def findings_as_json(findings: Sequence[Finding]) -> str:
    """The findings as JSON: {"ok": no fault, "findings": [{check, status, found, advice}, ...]}."""
    return json.dumps({"ok": exit_code(findings) == 0, "findings": [asdict(f) for f in findings]}, indent=2)


def exit_code(findings: Sequence[Finding]) -> int:
    """1 when there is a fault, else 0. Warnings do not count."""
    return int(_count(findings, "fault") > 0)


def _count(findings: Sequence[Finding], status: str) -> int:
    """How many findings have this status."""
    return sum(f.status == status for f in findings)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the findings; the exit code as `exit_code` says."""
    parser = argparse.ArgumentParser(prog="course doctor", description="Is this machine ready?")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    as_json = parser.parse_args(argv).json
    findings = run_doctor()
    print(findings_as_json(findings) if as_json else format_findings(findings))
    return exit_code(findings)


if __name__ == "__main__":
    sys.exit(main())
