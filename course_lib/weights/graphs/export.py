"""A detector as files that run without this library, each compared with torch before it is written.

`.onnx` is read by ONNX Runtime and many others, `.pt2` by torch alone (`torch.export.load`). What they hold, and what
they do not, is in `parts.py`; each file also says it in words, in its metadata.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from course_lib.nn.deform import DeformConv2d
from course_lib.weights.files import write_beside
from course_lib.weights.graphs.parts import Part, Shape, parts_of
from course_lib.weights.imported import Imported

TOLERANCE = 1e-4  # of the largest number of an output, or of 1
METADATA = "course.json"  # the file within a .pt2
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
AXES = ("batch", "channels", "rows", "columns")  # of an input; the last two count multiples

Run = Callable[[Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Attributes:
        path: where.
        difference: the largest to torch, as a share of the output's largest number, or of 1.
    """

    path: Path
    difference: float


def export_onnx(found: Imported, path: Path) -> list[Written]:
    """Write a detector as ONNX: `path`, and beside it one file for each of the heads that look at regions.

    Args:
        found: the detector; its header goes into the metadata.
        path: ends with .onnx; a box head's file ends with .box_head.onnx, a mask head's with .mask_head.onnx.

    Raises:
        ValueError: without the packages of the extra `onnx`, for a detector that ONNX has no operators for, or if a
            graph does not say what torch says; then no file is written or changed.
        FileNotFoundError: if the folder is not there.
        OSError: if a file cannot be written.
    """
    if missing := [name for name in ONNX_PACKAGES if find_spec(name) is None]:
        are = "is" if len(missing) == 1 else "are"
        raise ValueError(
            f'{", ".join(missing)} {are} not installed: pip install -e ".[onnx]" in the folder of the course'
        )
    if any(isinstance(layer, DeformConv2d) for layer in found.model.modules()):
        raise ValueError(
            f"{path}: torch's exporter has no ONNX operator for this model's deformable convolutions; export to .pt2"
        )
    return _export(found, path, ".onnx", _to_onnx, _run_onnx)


def export_program(found: Imported, path: Path) -> list[Written]:
    """Write a detector as programs of `torch.export`; arguments, files and errors as of `export_onnx`, with .pt2."""
    return _export(found, path, ".pt2", _to_program, _run_program)


def trace(part: Part) -> ExportedProgram:
    """A part as a program for inputs of every size that `part.free` allows."""
    sizes = {}
    for axis, (step, least) in part.free.items():
        size = Dim(AXES[axis], min=least)
        sizes[axis] = size if step == 1 else step * size
    with torch.no_grad():
        return torch.export.export(part.module, (part.draw(part.shapes[0]),), dynamic_shapes=(sizes,))


@torch.no_grad()
def check(part: Part, shapes: Iterable[Shape], run: Run, path: Path) -> float:
    """The largest difference between what `run` and the part make of inputs of these shapes.

    Raises:
        ValueError: if it is over `TOLERANCE`, or names or shapes differ; it names the output.
    """
    differences = {}
    for shape in shapes:
        x = part.draw(shape)
        wanted, found = part.module(x), run(x)
        if list(found) != list(wanted):
            raise _refusal(path, f"the graph gives {', '.join(found)}; expected {', '.join(wanted)}")
        for name, value in wanted.items():
            sizes = tuple(found[name].shape), tuple(value.shape)
            if sizes[0] != sizes[1]:
                raise _refusal(path, f"the graph's {name} is {sizes[0]} for {shape}, expected {sizes[1]}")
            difference = (found[name] - value).abs().max() / value.abs().max().clamp(min=1)
            differences[name, shape] = difference.nan_to_num(nan=torch.inf).item()
    (name, shape), largest = max(differences.items(), key=lambda item: item[1])
    if largest > TOLERANCE:
        differs = f"differs from torch's by {largest:.2g} of its largest number for {shape}"
        raise _refusal(path, f"the graph's {name} {differs}, expected at most {TOLERANCE:g}")
    return largest


def _refusal(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path}: {reason}; nothing was written")


def _export(
    found: Imported,
    path: Path,
    suffix: str,
    to_bytes: Callable[[ExportedProgram, Part, dict], bytes],
    start: Callable[[bytes], Run],
) -> list[Written]:
    path = Path(path)
    if path.suffix != suffix:
        raise ValueError(f"{path}: expected a name that ends with {suffix}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    files, written = {}, []
    for part in parts_of(found.model):
        target = path if part.name == "dense" else path.with_suffix(f".{part.name}{suffix}")
        files[target] = to_bytes(trace(part), part, found.header | {"part": part.name, "about": part.about})
        shapes = part.shapes[1:] + (part.one_cell if suffix == ".onnx" else ())
        written.append(Written(target, check(part, shapes, start(files[target]), target)))
    for target, data in files.items():
        write_beside(target, lambda temporary, data=data: temporary.write_bytes(data))
    return written


def _to_onnx(program: ExportedProgram, part: Part, header: dict) -> bytes:
    names = list(part.module(part.draw(part.shapes[1])))
    graph = torch.onnx.export(program, input_names=[part.input], output_names=names, verbose=False)
    sizes = graph.model.graph.inputs[0].shape  # such as s0, 3, 16*s1, 16*s2, of symbols that mean nothing
    graph.rename_axes({sizes[axis].value.rpartition("*")[2]: AXES[axis] for axis in part.free})
    graph.model.metadata_props.update({key: json.dumps(value) for key, value in header.items()})
    return graph.model_proto.SerializeToString()


def _run_onnx(data: bytes) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    return lambda x: dict(zip(names, map(torch.from_numpy, session.run(names, {images.name: x.numpy()}))))


def _to_program(program: ExportedProgram, part: Part, header: dict) -> bytes:
    buffer = BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA: json.dumps(header)})
    return buffer.getvalue()


def _run_program(data: bytes) -> Run:
    return torch.export.load(BytesIO(data)).module()
