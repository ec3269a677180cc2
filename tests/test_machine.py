import os
import sys
from pathlib import Path

import pytest

from course_lib import machine


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("max 100000", 4),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("900000 100000", 4),
    ],
)
def test_a_containers_quota_limits_the_cores(cgroup: Path, cpu_max: str, cores: int) -> None:
    (cgroup / "cpu.max").write_text(cpu_max + "\n")
    assert machine.cores_allowed() == cores


def test_without_a_quota_the_affinity_counts(cgroup: Path) -> None:
    assert machine.cores_allowed() == 4


def test_the_processors_name_is_linuxs_or_pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert machine.processor_name()
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: A Fast One 3000\nprocessor\t: 1\nmodel name\t: Other\n"
    )
    assert machine.processor_name() == "A Fast One 3000"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux files")
@pytest.mark.parametrize(
    ("limit", "free"), [("max", 4096 * 1024), ("3000000", 3_000_000 - 1_000_000), (str(2**40), 4096 * 1024)]
)
def test_memory_is_the_smaller_of_machine_and_container(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch, limit: str, free: int
) -> None:
    meminfo = cgroup / "meminfo"
    meminfo.write_text("MemTotal:       9999 kB\nMemAvailable:   4096 kB\n")
    monkeypatch.setattr(machine, "MEMINFO", meminfo)
    (cgroup / "memory.max").write_text(limit + "\n")
    (cgroup / "memory.current").write_text("1000000\n")
    assert machine.memory_available() == free


def test_memory_of_this_machine_is_plausible() -> None:
    free = machine.memory_available()
    assert free is None or 2**24 < free < 2**50


def test_the_peak_of_memory_grows_with_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    machine.forget_peak_memory()  # of the tests before this one
    before = machine.peak_memory()
    block = bytearray(300 * 2**20)
    assert before is None or machine.peak_memory() > before
    del block
    machine.forget_peak_memory()
    if machine.STATUS.is_file():
        assert machine.peak_memory() < before + 300 * 2**20


def test_the_peak_of_memory_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "STATUS", tmp_path / "none")
    monkeypatch.setattr(machine, "CLEAR", tmp_path / "none")
    machine.forget_peak_memory()
    if sys.platform != "win32":
        assert machine.peak_memory() > 0
    monkeypatch.setattr(sys, "platform", "win32")
    assert machine.peak_memory() is None
