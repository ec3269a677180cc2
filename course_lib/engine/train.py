"""Training that can be cut off at any moment and goes on as if nothing had happened.

What the network sees at iteration t depends on (seed, t) alone: the order of the images, the augmentation, the
learning rate, what a detector draws by itself. A checkpoint therefore needs no generator state, and a killed run that
is resumed ends with the same weights, bit for bit, as one that was not.
"""

import json
import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from course_lib.datasets.coco import CocoDetection
from course_lib.datasets.transforms import train_transform
from course_lib.engine import checkpoint
from course_lib.engine.batches import LEARNT, BatchStream, mix
from course_lib.engine.evaluate import detect_dataset, evaluate_results
from course_lib.engine.recipe import SCALES, Recipe

LOG_EVERY = 20  # iterations
SAVE_EVERY = 20.0  # seconds


def learning_rate_factor(progress: float, warmup: float) -> float:
    """Share of the peak rate at `progress` in 0 … 1: linear warm-up, then a cosine down to 1 %."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    position = (progress - warmup) / (1 - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, position)))


class TrainingLoop(ABC):
    """One training run but for what a step learns from: clock, schedule, moving average, log, and the files it leaves.

    Args:
        model: a detector in the plain API, on its device.
        recipe: how to train.
        val_data: the images that AP is measured on, on the way; None for none.
        out: the run folder, which exists.
        header: written with the weights so that they can be loaded without the run: preset, classes.
        progress: show a bar.
        watch: called with the loop and the loss whenever the log is written, by whoever shows progress otherwise.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        *,
        val_data: CocoDetection | None,
        out: Path,
        header: dict,
        progress: bool = True,
        watch: Callable[["TrainingLoop", float], None] | None = None,
    ):
        self.model = model.train()
        self.recipe, self.out, self.header = recipe, out, header
        self.progress, self.watch = progress, watch
        self.val_data = val_data
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(model, recipe)
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.iteration, self.seconds = 0, 0.0
        self.last_ap: float | None = None

    # ---- the loop -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to the end of the budget, from wherever the run stands.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once the state is saved.
            ValueError: if the loss is not finite, naming the images.
            OSError: if the run folder cannot be written; the last checkpoint is intact.
        """
        with self._bar() as bar, _interrupt_flag() as interrupted:
            clock = time.perf_counter() - self.seconds
            saved, evaluated = time.perf_counter(), int(self.progress_made() * self.recipe.evaluations)
            while self.progress_made() < 1:
                losses = self.step()
                self.iteration += 1
                self.seconds = time.perf_counter() - clock
                due = int(self.progress_made() * self.recipe.evaluations)
                if self.iteration % LOG_EVERY == 0 or due > evaluated:
                    record = self._record(losses)
                    if due > evaluated and self.val_data is not None and due < self.recipe.evaluations:
                        record["AP"] = self.last_ap = self.evaluate_average()
                    evaluated = due
                    self._log(record)
                    loss = sum(float(value.detach()) for value in losses.values())
                    self._show(bar, loss)
                    if self.watch is not None:
                        self.watch(self, loss)
                if interrupted.is_set() or time.perf_counter() - saved > SAVE_EVERY:
                    self.save()
                    saved = time.perf_counter()
                if interrupted.is_set():
                    raise KeyboardInterrupt
                self.seconds = time.perf_counter() - clock
        self.save()
        self.save_weights()

    def progress_made(self) -> float:
        """Share of the budget that is spent, 0 … 1."""
        if self.recipe.iterations is not None:
            return self.iteration / self.recipe.iterations
        return self.seconds / (60 * self.recipe.minutes)

    def step(self) -> dict[str, Tensor]:
        """One iteration: learning rate, `learn`, moving average."""
        factor = learning_rate_factor(self.progress_made(), self.recipe.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.peak_rate * factor * group["lr_scale"]
        losses = self.learn()
        self._update_average()
        return losses

    @abstractmethod
    def learn(self) -> dict[str, Tensor]:
        """Take the next batch, its losses and their gradient, and update the model's own weights; returns the losses.

        Raises:
            ValueError: if the loss is not finite.
        """

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(
            self.recipe.ema, (1 + self.iteration) / (10 + self.iteration)
        )  # short at first: Adam's start is noise
        state = self.model.state_dict()
        floats = [name for name, value in self.average.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in floats], [state[n] for n in floats], 1 - decay)
        for name, value in self.average.items():
            if not value.is_floating_point():
                value.copy_(state[name])

    def evaluate_average(self) -> float | None:
        """AP of the averaged weights on the first validation images."""
        indices = list(range(min(self.recipe.evaluation_images, len(self.val_data))))
        with self.averaged():
            results, _, _ = detect_dataset(self.model, self.val_data, indices=indices, precision=self.recipe.precision)
        image_ids = [self.val_data.image_ids[i] for i in indices]
        return evaluate_results(self.val_data.coco, results, image_ids=image_ids).summary["AP"]

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with the averaged weights in place, and its own back afterwards."""
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        try:
            yield self.model
        finally:
            self.model.load_state_dict(own)

    # ---- files --------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write `last.safetensors`: weights, average, optimizer, position."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in state.items() if v is not None}
        checkpoint.save_tensors(
            self.out / checkpoint.LAST,
            tensors,
            {"iteration": self.iteration, "seconds": self.seconds, "AP": self.last_ap},
        )

    def resume(self) -> bool:
        """Go back to `last.safetensors`; False if the run was cut off before it was first written.

        Raises:
            ValueError: if the file is damaged or belongs to another model.
        """
        path = self.out / checkpoint.LAST
        if not path.exists():
            self._truncate_log(0)
            return False
        tensors, position = checkpoint.load_tensors(path)
        part = lambda prefix: {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}  # noqa: E731
        try:
            self.model.load_state_dict(part("model."))
            for name, value in part("average.").items():
                self.average[name].copy_(value)
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"{path}: the weights are of another model ({error})") from None
        state: dict[int, dict[str, Tensor]] = {}
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for key, value in part("optimizer.").items():
            index, name = key.split(".", 1)
            if value.ndim:  # moments in their parameter's memory order, which the fused optimizers take for granted
                value = torch.empty_like(parameters[int(index)]).copy_(value)
            state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.iteration, self.seconds, self.last_ap = position["iteration"], position["seconds"], position["AP"]
        self._truncate_log(self.iteration)
        return True

    def save_weights(self) -> None:
        """Write `weights.safetensors`: the averaged weights and all that is needed to use them."""
        checkpoint.save_tensors(self.out / checkpoint.WEIGHTS, self.average, self.final_header())

    def final_header(self) -> dict:
        """The header, with what was trained in all."""
        return {**self.header, "iterations": self.iteration, "minutes": round(self.seconds / 60, 3)}

    def _record(self, losses: dict[str, Tensor]) -> dict:
        values = {name: round(float(value.detach()), 5) for name, value in losses.items()}
        rate = self.optimizer.param_groups[0]["lr"]
        return {"iteration": self.iteration, "minutes": round(self.seconds / 60, 4), "lr": rate, **values}

    def _log(self, record: dict) -> None:
        with (self.out / checkpoint.LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _truncate_log(self, iteration: int) -> None:
        path = self.out / checkpoint.LOG
        kept = [r for r in read_log(path) if r["iteration"] <= iteration]
        checkpoint.write_text(path, "".join(json.dumps(r) + "\n" for r in kept))

    # ---- progress -----------------------------------------------------------------------------------------------

    def _bar(self) -> tqdm:
        if self.recipe.iterations is not None:
            return tqdm(total=self.recipe.iterations, initial=self.iteration, unit="it", disable=not self.progress)
        form = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{remaining} left{postfix}]"
        total = 60 * self.recipe.minutes
        return tqdm(total=total, initial=self.seconds, bar_format=form, disable=not self.progress)

    def _show(self, bar: tqdm, loss: float) -> None:
        bar.n = self.iteration if self.recipe.iterations is not None else min(self.seconds, bar.total)
        shown = {"loss": f"{loss:.3f}", "img/s": f"{self.iteration * self.recipe.batch_size / self.seconds:.0f}"}
        if self.last_ap is not None:
            shown["AP"] = f"{self.last_ap:.3f}"
        bar.set_postfix(shown)


class Trainer(TrainingLoop):
    """A training run of a detector of this library, whose batches depend on (seed, iteration) alone.

    Args:
        model, recipe, options: see `TrainingLoop`.
        train_data: what is learnt from.
        size: (height, width) that augmentation produces.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, *, train_data: CocoDetection, size: tuple[int, int], **options
    ):
        self.memory_format = fast_memory_format(model)
        super().__init__(model.to(memory_format=self.memory_format), recipe, **options)
        self.device = next(model.parameters()).device
        self.train_data = train_data
        self.batches = BatchStream(
            train_data,
            train_transform(size, scale=SCALES[recipe.augmentation], photometric=recipe.augmentation == "strong"),
            recipe.batch_size,
            recipe.seed,
        )

    def learn(self) -> dict[str, Tensor]:
        """See `TrainingLoop.learn`; a loss that is not finite is reported with the ids of its images."""
        if (generator := getattr(self.model, "generator", None)) is not None:  # of a detector that samples
            generator.manual_seed(mix(self.recipe.seed, 3, self.iteration))
        images, targets = self.batches[self.iteration]
        images = images.to(self.device).contiguous(memory_format=self.memory_format)
        moved = [{key: t[key].to(self.device) for key in LEARNT if key in t} for t in targets]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            losses = self.model(images, moved)
        total = sum(losses.values())
        if not torch.isfinite(total):
            ids = [t["image_id"] for t in targets]
            values = {name: float(value.detach()) for name, value in losses.items()}
            raise ValueError(f"iteration {self.iteration}: the loss is not finite ({values}) on images {ids}")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        self.optimizer.step()
        return losses


def fast_memory_format(model: nn.Module) -> torch.memory_format:
    """The order of pixels in memory to train in: channels-last, in which CPU convolutions are fastest.

    Not so for a network with a strided 1×1 convolution of fewer than 16 channels: oneDNN's backward pass of that one
    writes past its buffers and crashes.
    """
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    narrow = any(c.kernel_size == (1, 1) and c.stride != (1, 1) and c.in_channels < 16 for c in convolutions)
    return torch.contiguous_format if narrow else torch.channels_last


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer; vectors (norms, biases) are not decayed.

    Each group's `lr_scale` is its share of the learning rate; the backbone's parameters have groups of their own only
    if their share is another.

    Raises:
        ValueError: for an unknown optimizer, or a rate for a backbone that is frozen as a whole.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    shares = [(trainable, 1.0)]
    if recipe.backbone_rate != 1:
        of_backbone = set(model.backbone.parameters())
        if of_backbone.isdisjoint(trainable):
            raise ValueError(
                f"backbone_rate is {recipe.backbone_rate}, but all of the backbone is frozen: leave it at 1"
            )
        shares = [
            ([p for p in trainable if p not in of_backbone], 1.0),
            ([p for p in trainable if p in of_backbone], recipe.backbone_rate),
        ]
    groups = [
        {"params": [p for p in parameters if (p.ndim > 1) == decayed], "weight_decay": decay, "lr_scale": share}
        for parameters, share in shares
        for decayed, decay in ((True, recipe.weight_decay), (False, 0.0))
    ]
    match recipe.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=recipe.peak_rate, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=recipe.peak_rate, momentum=0.9, fused=True)
    raise ValueError(f"unknown optimizer {recipe.optimizer!r}: expected adamw or sgd")


def read_log(path: Path) -> list[dict]:
    """The records of a `log.jsonl`; a last line that a crash cut short is left out, a missing file is empty."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


@contextmanager
def _interrupt_flag() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that a step is never torn; the second one interrupts at once."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous = signal.getsignal(signal.SIGINT)

    def handle(number, frame):
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    signal.signal(signal.SIGINT, handle)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous)
