"""The verbs of `course data`, and the options that they share with the others."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(help="Make, look at and check data sets.", no_args_is_help=True)


class Split(StrEnum):
    """The two parts of a data folder."""

    train = "train"
    val = "val"


Images = Annotated[Path | None, typer.Option("--images", help="With --annotations: a plain folder of images.")]
Annotations = Annotated[Path | None, typer.Option("--annotations", help="With --images: a COCO JSON of any name.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@data_app.command("make")
def data_make(
    out: Annotated[Path, typer.Argument(help="The folder to make; an existing other one is never overwritten.")],
    images: Annotated[int, typer.Option(min=1, help="Training images.")] = 4000,
    val: Annotated[int | None, typer.Option(min=1, help="Validation images; by default an eighth as many.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another town.")] = 0,
    size: Annotated[str, typer.Option(help="Side in pixels, or HEIGHTxWIDTH.")] = "128",
    objects: Annotated[float | None, typer.Option(help="Mean number of things in a scene.")] = None,
    scale: Annotated[
        tuple[float, float] | None, typer.Option(help="A person's height, far and near, as shares of the side.")
    ] = None,
    crowding: Annotated[float | None, typer.Option(help="Chance that a thing overlaps another.")] = None,
    rarity: Annotated[
        float | None, typer.Option(help="How steep the long tail of classes is; 0 makes all equal.")
    ] = None,
    noise: Annotated[float | None, typer.Option(help="Sensor noise in grey levels.")] = None,
    crowds: Annotated[float | None, typer.Option(help="Chance of a crowd in the distance.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the pictures do not depend on it.")] = 2,
) -> None:
    """Make a Town: procedural street scenes with boxes, masks and panoptic maps."""
    from course_lib.datasets.town import TownConfig
    from course_lib.datasets.town_writer import make_town

    dials = {
        "objects": objects,
        "scale": scale,
        "crowding": crowding,
        "rarity": rarity,
        "noise": noise,
        "crowds": crowds,
    }
    config = TownConfig(size=parse_size("--size", size), **{k: v for k, v in dials.items() if v is not None})
    val = max(1, images // 8) if val is None else val
    make_town(out, train=images, val=val, config=config, seed=seed, workers=workers)
    print(f"{out}: {images} training and {val} validation images. Look at them: course data show {out}")


@data_app.command("show")
def data_show(
    folder: Annotated[Path, typer.Argument(help="A data folder.")],
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("data.png"),
    split: Split = Split.train,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many images.")] = 12,
    first: Annotated[int, typer.Option(min=0, help="Start at this one.")] = 0,
) -> None:
    """Draw images of a data set with their boxes and masks on one sheet."""
    from course_lib.datasets.coco import open_split
    from course_lib.engine.show import contact_sheet

    contact_sheet(open_split(folder, split.value), first, count).save(out)
    print(f"wrote {out}")


@data_app.command("check")
def data_check(
    folder: Annotated[Path | None, typer.Argument(help="A data folder; or give --images and --annotations.")] = None,
    images: Images = None,
    annotations: Annotations = None,
    as_json: Json = False,
) -> None:
    """List everything that is wrong with a COCO data set, all at once; exit code 1 if anything is."""
    from course_lib.datasets.validate import check_folder, check_split

    if (folder is None) == (images is None or annotations is None):
        raise ValueError("give a data folder, or both --images and --annotations")
    report = check_folder(folder) if folder is not None else check_split(images, annotations)
    print(report.to_json() if as_json else report)
    raise typer.Exit(0 if report.ok else 1)


@data_app.command("export")
def data_export(
    folder: Annotated[Path, typer.Argument(help="A data folder.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")],
    split: Split = Split.train,
    name: Annotated[
        str | None, typer.Option(help="By which Detectron2 shall know it; by default FOLDER_SPLIT.")
    ] = None,
) -> None:
    """Write a split as Detectron2's dataset dicts, and the script that registers it there."""
    from course_lib.datasets.coco import open_split
    from course_lib.engine.detectron2_data import export_dataset

    name = name or f"{folder.resolve().name}_{split.value}"
    print(f"wrote {', '.join(map(str, export_dataset(open_split(folder, split.value), name, out)))}")


def parse_size(option: str, text: str) -> int | tuple[int, int]:
    """A side in pixels, or (height, width). Raises ValueError naming the option."""
    try:
        sides = [int(part) for part in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise ValueError(f"{option} {text}: expected a number of pixels, or HEIGHTxWIDTH such as 96x160")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])
