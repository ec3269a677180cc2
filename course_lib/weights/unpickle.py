"""Read a foreign pickle of arrays without running anything in it.

A pickle is a program: it may name any function and call it. Detectron2's and Caffe2's checkpoints are such files, so
this reader resolves eight names, and none of them to what it says: arrays and dtypes are stand-ins of ours that take
down shape, type and bytes, and make an array from them once all three have been checked. Any other name is refused.
"""

import mmap
import pickle
import pickletools
import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

DEPTH = 8  # containers in containers: a checkpoint has three
OPERATIONS = 2**20  # a checkpoint has some twenty for each array
LARGE = 2**12  # bytes; what is larger is read into the memory in which the array will lie
LENGTHS = {"BINBYTES": 4, "BINBYTES8": 8}  # operations with many bytes: width of the length before them
NUMBER = re.compile(r"[<>=|]?(?:[iuf][1248]|c8|c16|b1|\?)")


class Refused(ValueError):
    """The file holds something else than arrays, or is damaged."""


def read_pickle(path: Path) -> Any:
    """What a pickle file holds: dicts, lists, tuples, text, bytes, numbers and numeric numpy arrays.

    Text of Python 2 is taken as Latin-1, which Detectron2's and Caffe2's files need. Each array's bytes are read once,
    to where they stay: beside them, nothing of the file is held in memory. Small arrays may be read-only.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or cut short, or asks for anything else; it says for what.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise Refused("is empty")
            _scan(file)
            file.seek(0)
            return _finish(_Unpickler(file, encoding="latin1").load(), 0, {})
    except Refused as error:
        raise ValueError(f"{path}: {error}") from None
    except RecursionError:
        raise ValueError(f"{path}: containers are nested too deeply for a checkpoint") from None
    except Exception as error:  # a damaged pickle raises whatever its operations meet
        raise ValueError(f"{path}: not a readable pickle ({type(error).__name__}: {error})") from None


def _scan(file: Any) -> None:
    """Refuse, before anything is built, what claims more than the file holds: lengths, and places in the memo."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for count in range(1, OPERATIONS + 1):
            operation = pickletools.code2op.get(data.read(1).decode("latin1"))
            if operation is None:
                raise Refused("not a readable pickle (cut short, or of another kind)")
            argument = None
            if width := LENGTHS.get(operation.name):  # its bytes are passed over, so that they stay on the disk
                length = int.from_bytes(data.read(width), "little")
                if length > len(data) - data.tell():
                    raise Refused(f"not a readable pickle (it claims {length} bytes, and there are fewer)")
                data.seek(length, 1)
            elif operation.arg is not None:
                argument = operation.arg.reader(data)
            if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > count:
                raise Refused(f"place {argument} of the memo after {count} operations; the file is damaged")
            if operation.name == "FRAME" and argument > len(data) - data.tell():
                raise Refused("not a readable pickle (a frame is cut short)")
            if operation.name in ("PERSID", "BINPERSID"):
                raise Refused("it refers to objects outside itself, as torch's own format does; that is read elsewhere")
            if operation.name == "STOP":
                return
    raise Refused(f"more than {OPERATIONS} operations; a checkpoint has some twenty for each array")


class _Unpickler(pickle._Unpickler):  # the one in Python: of it, unlike the one in C, an operation can be replaced
    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: Any, **options: Any):
        super().__init__(file, **options)
        self.file = file

    def read_bytes(self, length: int) -> bytes | bytearray | memoryview:
        """As many bytes; if they are many, in memory that can be written to and was not filled with zeros first."""
        if length < LARGE:
            return self.read(length)
        if self._unframer.current_frame:  # of 64 KB at most
            return bytearray(self.read(length))
        data = memoryview(np.empty(length, np.uint8))
        if self.file.readinto(data) != length:
            raise Refused("it is cut short")
        return data

    def load_binbytes(self) -> None:
        """Bytes, their length in four bytes."""
        self.append(self.read_bytes(int.from_bytes(self.read(4), "little")))

    def load_binbytes8(self) -> None:
        """Bytes, their length in eight bytes."""
        self.append(self.read_bytes(int.from_bytes(self.read(8), "little")))

    dispatch[pickle.BINBYTES[0]] = load_binbytes
    dispatch[pickle.BINBYTES8[0]] = load_binbytes8

    def find_class(self, module: str, name: str) -> "_StandIn":
        """The stand-in for an allowed name."""
        module = module.replace("numpy._core", "numpy.core")  # numpy 2's name of it
        if stand_in := STAND_INS.get(f"{module}.{name}"):
            return stand_in
        raise Refused(f"it asks for {module}.{name}; allowed are arrays, their types and dicts, nothing that runs")


class _StandIn:
    """A function that a pickle may call and cannot change, as it could a bare function or class of ours."""

    __slots__ = ("make",)

    def __init__(self, make: Callable):
        self.make = make

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise Refused("it sets attributes of a function")


class _Dict(dict):
    """A dict with the order of its keys."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Attributes are dropped: torch hangs `_metadata` on a state dict."""


class _Type:
    """numpy.dtype, of numbers alone: an array of objects could hold anything."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, align: Any = False, copy: Any = False):
        if not isinstance(code, str) or not NUMBER.fullmatch(code):
            raise Refused(f"an array of type {code!r:.40}; only numbers are read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        """Byte order; a plain number has neither fields nor a shape."""
        _, order, base, names, fields, *_ = state
        if any(x is not None for x in (base, names, fields)) or order not in ("<", ">", "=", "|"):
            raise Refused("an array of records or of arrays; only numbers are read")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """numpy.ndarray while it is being read."""

    __slots__ = ("data", "kind", "order", "shape")

    def __init__(self, data: Any = None, kind: Any = None, shape: Any = (), order: Any = "C"):
        self.data, self.kind, self.shape, self.order = data, kind, shape, order

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.kind, fortran, self.data = state
        self.order = "F" if fortran else "C"

    def finish(self) -> np.ndarray:
        """The array, a view of its bytes."""
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        if not isinstance(data, bytes | bytearray | memoryview) or not isinstance(self.kind, _Type):
            raise Refused(
                f"an array made of {type(data).__name__} and {type(self.kind).__name__}, not bytes and a type"
            )
        shape = (self.shape,) if isinstance(self.shape, int) else self.shape
        whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not whole or self.order not in ("C", "F"):
            raise Refused(f"an array of shape {shape!r:.40} and order {self.order!r:.10}")
        dtype = self.kind.dtype
        if len(data) != prod(shape) * dtype.itemsize:
            raise Refused(f"an array of shape {shape} and type {dtype} with {len(data)} bytes")
        return np.frombuffer(data, dtype).reshape(shape, order=self.order)


def _encode(text: Any, codec: Any) -> bytes | bytearray:
    """_codecs.encode, with which protocol 2 writes bytes."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise Refused(f"text in {codec!r:.40}; bytes are written as Latin-1")
    return bytearray(text, "latin1") if len(text) >= LARGE else text.encode("latin1")


def _finish(value: Any, depth: int, done: dict[int, Any]) -> Any:
    """The value with real arrays in place of stand-ins; what is shared is finished once."""
    if id(value) in done:
        return done[id(value)]
    if depth > DEPTH:
        raise Refused(f"containers in containers, over {DEPTH} deep; a checkpoint has three")
    match value:
        case _Array():
            finished = value.finish()
            finished = finished[()] if finished.ndim == 0 else finished
        case dict():
            if odd := [key for key in value if not isinstance(key, str | bytes | int | float)]:
                raise Refused(f"a dict with a key of type {type(odd[0]).__name__}")
            finished = {key: _finish(item, depth + 1, done) for key, item in value.items()}
        case list() | tuple():
            finished = type(value)(_finish(item, depth + 1, done) for item in value)
        case bytearray() | memoryview():
            finished = bytes(value)
        case None | bool() | int() | float() | str() | bytes():
            finished = value
        case _:
            raise Refused(f"a {type(value).__name__}; expected arrays, numbers, text, lists and dicts")
    done[id(value)] = finished
    return finished


STAND_INS = {
    "collections.OrderedDict": _StandIn(_Dict),
    "_codecs.encode": _StandIn(_encode),
    "__builtin__.bytes": _StandIn(lambda: b""),  # so protocol 2 writes no bytes at all
    "numpy.ndarray": _StandIn(_Array),
    "numpy.dtype": _StandIn(_Type),
    "numpy.core.multiarray._reconstruct": _StandIn(lambda kind, shape, code: _Array()),
    "numpy.core.multiarray.scalar": _StandIn(lambda kind, data=b"": _Array(data, kind)),
    "numpy.core.numeric._frombuffer": _StandIn(_Array),
}
