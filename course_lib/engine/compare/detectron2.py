"""Detectron2 in a comparison: its models, loader and training step, under our budget, schedule and ruler.

All that this library asks of Detectron2 is in this file, and is imported where it is called: nothing else needs it.
Every run folder can be taken on by Detectron2's own tools: `config.yaml` describes the model, `model_final.pth` holds
its weights.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib import __version__
from course_lib.datasets.coco import CocoDetection
from course_lib.detectors.presets import Preset, get_preset, preset_from_dict, preset_to_dict
from course_lib.engine import checkpoint
from course_lib.engine.batches import mix
from course_lib.engine.compare.detectron2_preset import detectron2_preset
from course_lib.engine.detectron2_data import dataset_dicts
from course_lib.engine.plan import box_statistics, fit
from course_lib.engine.recipe import SCALES, Recipe
from course_lib.engine.train import TrainingLoop
from course_lib.nn.preprocess import to_bytes
from course_lib.weights.detectron2.config import write_config

YAML, FINAL = "config.yaml", "model_final"
JITTER = (0.7, 1.3)  # of brightness, contrast and saturation, as in `train_transform`
MISSING = (
    "Detectron2 cannot be imported here ({}). No package registry has it. On Linux or macOS, with a C++ compiler, "
    "build it for this environment's PyTorch: python -m pip install --no-build-isolation "
    "'git+https://github.com/facebookresearch/detectron2.git' (see its INSTALL.md)"
)


def require_detectron2() -> str:
    """Detectron2's version. Raises ValueError where it cannot be imported; it says how to get it."""
    try:
        import detectron2.engine
    except ImportError as error:
        raise ValueError(MISSING.format(error)) from None
    return detectron2.__version__


class Detectron2Detector(nn.Module):
    """A model of Detectron2's in our detectors' plain API, so that it is judged and timed as they are.

    Images are resized as its `DefaultPredictor` does it; boxes and masks come back at the images' own sizes.

    Args:
        model: what `build_model` made of the preset's config.
        preset: what it is in our words.
    """

    def __init__(self, model: nn.Module, preset: Preset):
        from detectron2.data.transforms import ResizeShortestEdge

        super().__init__()
        short, long = preset.input.size
        self.detectron2, self.uses_masks = model, preset.family == "mask_rcnn"
        self.resize = ResizeShortestEdge([short, short], long)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Boxes (N, 4), labels (N,), scores (N,), perhaps masks (N, H, W) of RGB images, as `Preprocess` takes them."""
        answers = self.detectron2([self._input(image) for image in images])
        return [self._found(answer["instances"]) for answer in answers]

    def _input(self, image: Tensor) -> dict:
        pixels = to_bytes(image).flip(0).permute(1, 2, 0).contiguous().numpy()  # (H, W, 3), BGR
        resized = self.resize.get_transform(pixels).apply_image(pixels)
        height, width = pixels.shape[:2]
        return {"image": torch.tensor(resized).permute(2, 0, 1), "height": height, "width": width}

    def _found(self, instances) -> dict[str, Tensor]:
        found = {
            "boxes": instances.pred_boxes.tensor,
            "labels": instances.pred_classes,
            "scores": instances.scores,
        }
        return found | ({"masks": instances.pred_masks.bool()} if self.uses_masks else {})


def build_detector(run: Path, preset: Preset) -> Detectron2Detector:
    """The model of a run folder's `config.yaml`, with fresh weights from torch's global generator, on the CPU."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    config = get_cfg()
    config.merge_from_file(str(run / YAML))
    config.MODEL.DEVICE = "cpu"
    return Detectron2Detector(build_model(config), preset)


def load_detectron2(run: Path, header: dict) -> Detectron2Detector:
    """The detector of a run that has ended, in evaluation mode.

    Raises:
        ValueError: if Detectron2 is not there.
    """
    require_detectron2()
    from detectron2.checkpoint import DetectionCheckpointer

    detector = build_detector(run, preset_from_dict(header["preset"]))
    DetectionCheckpointer(detector.detectron2).load(str(run / f"{FINAL}.pth"))
    return detector.eval()


def make_trainer(
    detector: Detectron2Detector,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    *,
    train_data: CocoDetection,
    size: tuple[int, int],
    seed: int,
) -> Any:
    """Detectron2's `SimpleTrainer`, with its loader over our data, augmented as by `train_transform`.

    Args:
        detector, optimizer: what is trained, and how.
        recipe: says how many images a step has, and their augmentation.
        train_data: what is learnt from, with masks if they are learnt.
        size: (height, width) that augmentation produces.
        seed: of everything that Detectron2 draws from; all of it is global.
    """
    from detectron2.data import DatasetMapper, build_detection_train_loader
    from detectron2.data import transforms as T
    from detectron2.data.samplers import TrainingSampler
    from detectron2.engine import SimpleTrainer
    from detectron2.structures import BoxMode
    from detectron2.utils.env import seed_all_rng

    seed_all_rng(seed)
    augmentations = [
        T.ResizeScale(*SCALES[recipe.augmentation], *size),
        T.FixedSizeCrop(tuple(size), seg_pad_value=0),  # its 255, void in a semantic map, would be object in a mask
        T.RandomFlip(),
    ]
    if recipe.augmentation == "strong":
        augmentations += [T.RandomBrightness(*JITTER), T.RandomContrast(*JITTER), T.RandomSaturation(*JITTER)]
    records = dataset_dicts(train_data, run_lengths=train_data.masks)
    for known in (a for record in records for a in record["annotations"]):
        known["bbox_mode"] = BoxMode(known["bbox_mode"])  # a plain number, as JSON has it, will not do
    loader = build_detection_train_loader(
        records,
        mapper=DatasetMapper(
            is_train=True,
            augmentations=augmentations,
            image_format="BGR",
            use_instance_mask=train_data.masks,
            instance_mask_format="bitmask",
        ),
        sampler=TrainingSampler(len(train_data), seed=seed),
        total_batch_size=recipe.batch_size,
        aspect_ratio_grouping=False,
        num_workers=0,  # no more processes than the other models have
    )
    return SimpleTrainer(detector.detectron2, loader, optimizer)


def take_step(trainer: Any, iteration: int) -> dict[str, Tensor]:
    """One step of a `SimpleTrainer`; returns its losses.

    Raises:
        ValueError: if the loss is not finite.
    """
    from detectron2.utils.events import EventStorage

    trainer.iter = iteration
    try:
        with EventStorage(iteration) as storage:
            trainer.run_step()
    except FloatingPointError as error:
        raise ValueError(f"iteration {iteration}: the loss is not finite ({error})") from None
    found = storage.latest()  # by name, value and iteration
    return {name: torch.tensor(value) for name, (value, _) in found.items() if name.startswith("loss_")}


class Detectron2Loop(TrainingLoop):
    """A training run whose steps are Detectron2's.

    A run that was cut off goes on with other batches than one that was not, since Detectron2's loader cannot be set to
    a place; both are repeatable.

    Args:
        detector: what is trained.
        recipe: how to train.
        train_data, size: see `make_trainer`.
        options: see `TrainingLoop`.
    """

    def __init__(
        self,
        detector: Detectron2Detector,
        recipe: Recipe,
        *,
        train_data: CocoDetection,
        size: tuple[int, int],
        **options,
    ):
        super().__init__(detector, recipe, **options)
        self.train_data, self.size = train_data, size
        self.optimizer.register_step_pre_hook(self._clip)

    def _clip(self, *_) -> None:
        nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)

    def run(self) -> None:
        """See `TrainingLoop.run`."""
        seed = mix(self.recipe.seed, 4, self.iteration) % 2**32
        self.trainer = make_trainer(
            self.model, self.optimizer, self.recipe, train_data=self.train_data, size=self.size, seed=seed
        )
        super().run()

    def learn(self) -> dict[str, Tensor]:
        """See `TrainingLoop.learn`."""
        return take_step(self.trainer, self.iteration)

    def save_weights(self) -> None:
        """Write the averaged weights as Detectron2 does, then the header, with which the run has ended."""
        from detectron2.checkpoint import DetectionCheckpointer

        with self.averaged():
            DetectionCheckpointer(self.model.detectron2, str(self.out)).save(FINAL)
        checkpoint.save_tensors(self.out / checkpoint.WEIGHTS, {}, self.final_header())


def train_detectron2(
    family: str,
    recipe: Recipe,
    *,
    train_data: CocoDetection,
    val_data: CocoDetection,
    out: Path,
    watch: Callable[[TrainingLoop, float], None] | None = None,
) -> None:
    """Train Detectron2's model of a family into a run folder, or go on with the training that lies there.

    It runs on the CPU, as all models of a comparison do, and in fp32: Detectron2's mixed precision needs CUDA.

    Args:
        family: "retinanet", "faster_rcnn" or "mask_rcnn".
        recipe: how to train; input size, anchors and augmentation are fitted to the data as ours are.
        train_data, val_data: the splits.
        out: the run folder, made if it is not there.
        watch: see `TrainingLoop`.

    Raises:
        ValueError: if Detectron2 is not there, an object has no mask and masks are to be learnt, or the loss is not
            finite.
        OSError: if the folder cannot be written.
        KeyboardInterrupt: after Ctrl-C, with the state saved.
    """
    version = require_detectron2()
    if family == "mask_rcnn":
        train_data = train_data.with_masks()
    fitted, recipe = fit(get_preset("tiny", family), recipe, box_statistics(train_data))
    preset = detectron2_preset(fitted)
    recipe = replace(recipe, precision="fp32", learning_rate=preset.learning_rate)
    header = {
        "preset": preset_to_dict(preset),
        "label_map": train_data.label_map.to_dict(),
        "recipe": asdict(recipe),
        "size": fitted.input.size,
        "detectron2": version,
        "course_lib": __version__,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_config(out / YAML, preset, len(train_data.label_map))
    torch.manual_seed(recipe.seed)
    loop = Detectron2Loop(
        build_detector(out, preset),
        recipe,
        train_data=train_data,
        size=fitted.input.size,
        val_data=val_data,
        out=out,
        header=header,
        progress=False,
        watch=watch,
    )
    loop.resume()
    loop.run()
