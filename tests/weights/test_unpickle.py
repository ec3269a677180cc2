"""A pickle of arrays is read; anything else is refused, and nothing in it runs."""

import builtins
import os
import pickle
import struct
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from course_lib.weights import unpickle
from course_lib.weights.unpickle import read_pickle


def arrays() -> dict:
    rng = np.random.default_rng(0)
    return {
        "a.weight": rng.standard_normal((3, 4, 2)).astype(np.float32),
        "fortran": np.asfortranarray(rng.standard_normal((5, 3))),
        "big endian": np.arange(6, dtype=">i4").reshape(2, 3),
        "half": np.ones(3, np.float16),
        "yes": np.array([True, False]),
        "bytes": np.arange(256, dtype=np.uint8),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.float64(2.5),
        "none": np.array(7),
    }


def write(path: Path, value, protocol: int = 4) -> Path:
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_checkpoint(tmp_path, protocol):
    ordered = OrderedDict(arrays())
    ordered._metadata = {"version": 1}  # as a state dict has it
    wanted = {"model": ordered, "__author__": "someone", "iteration": 3, "list": [1.5, None, (True, b"raw")]}
    found = read_pickle(write(tmp_path / "a.pkl", wanted, protocol))
    assert list(found) == list(wanted)
    assert found["list"] == wanted["list"]
    assert list(found["model"]) == list(ordered)
    for name, array in ordered.items():
        assert np.array_equal(found["model"][name], array)
        assert found["model"][name].dtype == array.dtype
        assert np.shape(found["model"][name]) == np.shape(array)


def test_numpy_1_and_2_name_things_differently(tmp_path):
    data = pickle.dumps(arrays(), protocol=2)
    old, new = b"numpy.core.", b"numpy._core."
    assert (new in data) != (old in data)
    for wanted in (old, new):
        renamed = data.replace(new, b"numpy.core.").replace(old, wanted)
        assert set(read_pickle(write(tmp_path / "a.pkl", renamed))) == set(arrays())


def test_text_of_python_2(tmp_path):
    # {'blobs': {'w': array([1, 2], float32)}} as cPickle of Python 2 writes it: bytes as SHORT_BINSTRING.
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01K\x02\x85cnumpy\ndtype\n"
        b"(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
        + np.array([1, 2], "<f4").tobytes()
        + b"tb"
    )
    found = read_pickle(write(tmp_path / "a.pkl", b"\x80\x02}U\x05blobs}U\x01w" + array + b"ss."))
    assert found["blobs"]["w"].tolist() == [1, 2]


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def reduce_of_numpy(name: str):
    return getattr(sys.modules["numpy._core.multiarray"], name)


def with_state(array: np.ndarray, **changes) -> bytes:
    """A pickle of an array whose dtype or own state says something else."""
    shape, data, dtype_code, dtype_state = array.shape, array.tobytes(), "f4", (3, "<", None, None, None, -1, -1, 0)
    shape, data = changes.get("shape", shape), changes.get("data", data)
    dtype_code, dtype_state = changes.get("code", dtype_code), changes.get("dtype_state", dtype_state)

    class Type:
        def __reduce__(self):
            return np.dtype, (dtype_code, False, True), dtype_state

    class Array:
        def __reduce__(self):
            return reduce_of_numpy("_reconstruct"), (np.ndarray, (0,), b"b"), (1, shape, Type(), False, data)

    return pickle.dumps({"w": Array()}, protocol=4)


HOSTILE = {
    "a command": Calls(os.system, "touch /tmp/never"),
    "eval": Calls(eval, "1 + 1"),
    "exec": Calls(exec, "x = 1"),
    "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
    "an import": Calls(__import__, "os"),
    "open": Calls(open, "/tmp/never", "w"),
    "partial": Calls(__import__("functools").partial, print, 1),
    "a module below an allowed one": b"\x80\x04\x8c\x12numpy.testing.utils\x8c\x07runtest\x93.",
    "a dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x1eOrderedDict.__init__.__globals__\x93.",
    "numpy's own loader": Calls(np.load, "/tmp/never"),
    "a torch storage": Calls(__import__("torch")._utils._rebuild_tensor_v2, 1),
    "an object array": np.array([1, "x"], dtype=object),
    "an object array by its state": with_state(np.zeros(2, np.float32), code="O8"),
    "records": np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]),
    "records by their state": with_state(
        np.zeros(2, np.float32), dtype_state=(3, "<", None, ("a",), {"a": (np.dtype("O"), 0)}, 4, 1, 27)
    ),
    "text arrays": np.array(["x", "yy"]),
    "dates": np.array(["2020-01-01"], dtype="datetime64[D]"),
    "fewer bytes than the shape": with_state(np.zeros(2, np.float32), shape=(2**40,)),
    "a negative shape": with_state(np.zeros(2, np.float32), shape=(-1, -2)),
    "a shape that is none": with_state(np.zeros(2, np.float32), shape="xx"),
    "data that is none": with_state(np.zeros(2, np.float32), data=[1.0, 2.0]),
    "an unfinished array": Calls(reduce_of_numpy("_reconstruct"), np.ndarray, (0,), b"b"),
    "bytes in another code": Calls(__import__("_codecs").encode, "abc", "rot13"),
    "many bytes": b"\x80\x02c__builtin__\nbytes\nK\x05\x85R.",
    "a bare function": b"\x80\x04\x8c\x07_codecs\x8c\x06encode\x93.",
    "attributes of a function": b"\x80\x04\x8c\x07_codecs\x8c\x06encode\x93}\x8c\x01a\x8c\x01bsb.",
    "attributes of a class": b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93N}\x8c\x06finishK\x01s\x86b.",
    "a set": {1, 2},
    "a class of its own": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.",
    "deep nesting": b"\x80\x04" + b"]" * 50_000 + b"a" * 49_999 + b".",
    "itself": b"\x80\x04]q\x00h\x00a.",
    "ten gigabytes": b"\x80\x04\x8e" + struct.pack("<Q", 10 * 2**30) + b"xx.",
    "ten gigabytes of text": b"\x80\x04\x8d" + struct.pack("<Q", 10 * 2**30) + b"xx.",
    "ten gigabytes of a frame": b"\x80\x04\x95" + struct.pack("<Q", 10 * 2**30) + b"N.",
    "ten gigabytes, to be changed": b"\x80\x05\x96" + struct.pack("<Q", 10 * 2**30) + b"xx.",
    "a far place in the memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    "a far place that does not fit": b"\x80\x02]p99999999999999999999\n.",
    "a persistent id": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "an extension": b"\x80\x02\x82\x01.",
    "an array as a key": b"\x80\x02}" + pickle.dumps(np.float32(1), protocol=2)[2:-1] + b"K\x01s.",
    "no pickle": b"PK\x03\x04 a zip file, as torch writes it",
    "text": b"hello",
    "nothing": b"",
    "too many operations": b"\x80\x02" + b"N0" * 2**19 + b"N.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_and_nothing_runs(tmp_path, monkeypatch, name):
    path = write(tmp_path / "hostile.pkl", HOSTILE[name])

    def ran(*_, **__):
        raise AssertionError("it ran")

    for owner, function in ((os, "system"), (builtins, "eval"), (builtins, "exec"), (np, "load")):
        monkeypatch.setattr(owner, function, ran)
    before = dict(unpickle.STAND_INS)
    with pytest.raises(ValueError, match=r"hostile\.pkl: ") as caught:
        read_pickle(path)
    assert len(str(caught.value)) < 400
    assert before == unpickle.STAND_INS
    assert not Path("/tmp/never").exists()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_large_arrays_are_read_to_where_they_stay(tmp_path, protocol):
    wanted = {"w": np.arange(5000.0), "raw": b"x" * 5000, "again": np.arange(3.0)}
    found = read_pickle(write(tmp_path / "a.pkl", wanted, protocol))
    assert np.array_equal(found["w"], wanted["w"])
    assert found["raw"] == wanted["raw"]
    assert type(found["raw"]) is bytes
    assert found["w"].flags.writeable


def test_every_cut_is_noticed(tmp_path):
    data = pickle.dumps({"w": np.arange(5.0), "v": np.zeros(600)}, protocol=4)
    for length in [*range(200), *range(200, len(data), 97), len(data) - 1]:
        with pytest.raises(ValueError, match=r"cut\.pkl: "):
            read_pickle(write(tmp_path / "cut.pkl", data[:length]))


def test_shared_lists_are_finished_once(tmp_path):
    """Lists of ten times the same list, seven deep: ten million leaves if each were visited on its own."""
    value = [0]
    for _ in range(7):
        value = [value] * 10
    found = read_pickle(write(tmp_path / "a.pkl", value))
    assert found[0] is found[9]


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pkl: there is no such file"):
        read_pickle(tmp_path / "none.pkl")
