"""The verbs of `course weights`. Nothing heavy is imported until one runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from course_lib.cli_data import Json

weights_app = typer.Typer(
    help="Weights of torchvision and Detectron2: list, import, convert, export.", no_args_is_help=True
)


@weights_app.command("list")
def weights_list(as_json: Json = False) -> None:
    """Name the models that can be had by name, and which of them need no download."""
    from course_lib.weights.listing import format_models, list_models

    models = list_models()
    print(json.dumps(models, indent=1) if as_json else format_models(models))


Source = Annotated[
    str, typer.Argument(help="A file (.pkl, .pth, .safetensors), a run folder, or a published model's name.")
]
Config = Annotated[Path | None, typer.Option(help="Detectron2's YAML of the file; without it the shapes must tell.")]
Labels = Annotated[Path | None, typer.Option(help="A COCO JSON whose categories are the model's labels.")]
NumClasses = Annotated[int | None, typer.Option(min=1, help="Start the class predictor afresh for so many classes.")]
Partial = Annotated[bool, typer.Option("--allow-partial", help="Take a file that lacks tensors or has more.")]
Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing: use torch's cache alone.")]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="Start from a run, a file or a published detector, or from a backbone alone, such as resnet18.",
    ),
]
Freeze = Annotated[
    int | None,
    typer.Option(
        help="With --weights: how much of the backbone stays as it is; 1 is the stem, 2 also the first stage."
    ),
]
BackboneRate = Annotated[float, typer.Option(help="With --weights: the backbone's share of the learning rate.")]


@weights_app.command("import")
def weights_import(
    source: Source,
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    config: Config = None,
    labels: Labels = None,
    num_classes: NumClasses = None,
    allow_partial: Partial = False,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Make a file of this course of a peer's weights; says what became of every tensor."""
    from course_lib.weights.listing import format_import

    found = open_named(source, config, labels, num_classes, allow_partial, offline)
    found.save(out)
    print(format_import(found, out, as_json=as_json))


@weights_app.command("convert")
def weights_convert(
    source: Source,
    out: Annotated[
        Path, typer.Argument(help="The file to write: .safetensors is ours, .pth and .pkl are Detectron2's.")
    ],
    config: Config = None,
    labels: Labels = None,
    num_classes: NumClasses = None,
    allow_partial: Partial = False,
    offline: Offline = False,
) -> None:
    """Make one kind of weights file of another; beside Detectron2's comes the YAML that describes it."""
    from course_lib.weights.listing import save_as

    found = open_named(source, config, labels, num_classes, allow_partial, offline)
    print(f"wrote {', '.join(map(str, save_as(found, out)))}")


@weights_app.command("export")
def weights_export(
    run: Annotated[str, typer.Argument(help="A run folder, its weights.safetensors, or a model of the zoo.")],
    out: Annotated[Path, typer.Argument(help="The file to write; its ending says for whom: .pth, .pkl, .onnx, .pt2.")],
) -> None:
    """Write a detector for programs that do not have this library.

    .pth or .pkl: a checkpoint that Detectron2 loads; its YAML comes beside it.

    .onnx: a graph for ONNX Runtime and others. .pt2: one for torch alone.

    A graph takes batches of normalised images of any size and gives what the heads say, and the anchors.

    Decoding, top-k and NMS are yours. A head that looks at regions has a file of its own.

    Each file is compared with torch before it is written. Its metadata says what goes in and comes out.

    ONNX needs the packages onnx, onnxscript and onnxruntime; docs/export.md shows how to use the file.
    """
    if out.suffix in (".onnx", ".pt2"):
        from course_lib.weights.graphs.export import export_onnx, export_program

        for file in (export_onnx if out.suffix == ".onnx" else export_program)(open_named(run), out):
            print(f"wrote {file.path}, at most {file.difference:.0e} from torch")
        return
    from course_lib.weights.listing import save_as

    if out.suffix not in (".pth", ".pkl"):
        raise ValueError(
            f"{out}: expected a name that ends with .pth or .pkl (Detectron2), .onnx, or .pt2 (torch.export)"
        )
    print(f"wrote {', '.join(map(str, save_as(open_named(run), out)))}")


def open_named(source, config=None, labels=None, num_classes=None, partial=False, offline=False):
    """A detector from a file, a run or a published name; what starts afresh is drawn from seed 0."""
    import torch

    from course_lib.datasets.label_map import LabelMap
    from course_lib.datasets.records import read_json
    from course_lib.weights.sources import open_weights

    torch.manual_seed(0)
    label_map = None if labels is None else LabelMap.from_categories(read_json(labels)["categories"])
    return open_weights(
        source,
        config=config,
        label_map=label_map,
        num_classes=num_classes,
        partial=partial,
        download=not offline,
    )


def find_start(model, preset, weights, freeze, backbone_rate, *, offline):
    """The preset of a training, and the weights that it starts from or None."""
    from course_lib.detectors.presets import get_preset
    from course_lib.engine.fine_tune import start_from, with_frozen

    if weights is None:
        if freeze or backbone_rate != 1:
            raise ValueError(
                "--freeze and --backbone-rate spare what weights know; random ones know nothing: add --weights"
            )
        start, chosen = None, get_preset(preset or "tiny", model)
    else:
        start = start_from(weights, model, preset, download=not offline)
        chosen = start.preset
    return (chosen if freeze is None else with_frozen(chosen, freeze)), start
