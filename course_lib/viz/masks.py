"""From a mask head's small grid to pixels: the way of one mask, step by step."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from course_lib.ops.masks import paste_masks
from course_lib.viz.figures import WIDTH
from course_lib.viz.palette import PREDICTION, style
from course_lib.viz.picture import Picture, to_numpy, to_picture

MARGIN = 0.35  # of the box's longer side, shown around it


def mask_steps(image: Picture, box: Tensor, grid: Tensor, *, threshold: float = 0.5) -> Figure:
    """A box in its image, the head's answer, the same stretched over the box, and the pixels from a threshold on.

    image: RGB, as `draw_boxes` takes it. box: (4,) xyxy in its pixels. grid: (S, S) probabilities. The first, third and
    fourth panel show the surroundings of the box; both maps have the one colour scale, 0 to 1.
    """
    pixels = np.asarray(to_picture(image))
    values = to_numpy(paste_masks(grid[None].float(), box[None].float(), pixels.shape[:2], threshold=None)[0])
    x1, y1, x2, y2 = box.tolist()
    margin = MARGIN * max(x2 - x1, y2 - y1)
    look = {"facecolor": "none", "edgecolor": PREDICTION, "linewidth": 2}
    with style():
        figure = Figure(figsize=(WIDTH, 2.2))
        panels = figure.subplots(1, 4)
        panels[0].imshow(pixels)
        panels[0].set_title("the box")
        panels[1].imshow(to_numpy(grid), vmin=0, vmax=1)
        panels[1].set_title(f"{len(grid)}×{len(grid)} answers")
        shown = panels[2].imshow(values, vmin=0, vmax=1)
        panels[2].set_title("pasted")
        panels[3].imshow(_tinted(pixels, values >= threshold))
        panels[3].set_title(f"≥ {threshold:g}: {int((values >= threshold).sum())} px")
        for axes in (panels[0], panels[2], panels[3]):
            axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, **look))  # imshow counts from middles
            axes.set(xlim=(max(x1 - margin, 0) - 0.5, min(x2 + margin, pixels.shape[1]) - 0.5))
            axes.set(ylim=(min(y2 + margin, pixels.shape[0]) - 0.5, max(y1 - margin, 0) - 0.5))
        for axes in panels:
            axes.set_axis_off()
            axes.title.set_fontsize(10)
        figure.colorbar(shown, ax=panels, shrink=0.7, ticks=[0, 0.5, 1])
    return figure


def _tinted(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image (H, W, 3), grey where the mask (H, W) is not."""
    grey = pixels.mean(2, keepdims=True).repeat(3, 2) * 0.6 + 90
    return np.where(mask[..., None], pixels, grey).round().clip(0, 255).astype(np.uint8)
