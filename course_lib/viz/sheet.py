"""Several pictures on one sheet, each under its caption."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from course_lib.viz.palette import INK, PAPER
from course_lib.viz.picture import Picture, enlarge, load_font, text_size, to_picture

GAP = 8  # px between pictures


def side_by_side(
    images: Sequence[Picture],
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    scale: int | str = 1,
) -> Image.Image:
    """Put pictures next to one another in rows.

    images: as `draw_boxes` takes or gives them; they may differ in size. titles: a caption for each, broken into
    lines where it is wider than its picture. columns: pictures a row; by default all in one. scale: whole factor to
    enlarge each by first, or "auto".
    Returns an RGB picture. Raises ValueError without images or if there are not as many titles.
    """
    if not images:
        raise ValueError("side_by_side: found no images, expected at least one")
    titles = [""] * len(images) if titles is None else list(titles)
    if len(titles) != len(images):
        raise ValueError(f"side_by_side: found {len(titles)} titles, expected one for each of {len(images)} images")
    pictures = [enlarge(to_picture(image), scale)[0] for image in images]
    columns = min(columns or len(pictures), len(pictures))
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    font = load_font(max(13, text_size(pictures[0])))
    captions = [_wrap(title, font, width) for title in titles]
    line = round(1.3 * font.size)
    head = max(len(caption) for caption in captions) * line + (GAP // 2 if any(captions) else 0)
    rows = -(-len(pictures) // columns)
    size = (columns * (width + GAP) - GAP, rows * (head + height + GAP) - GAP)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, (picture, caption) in enumerate(zip(pictures, captions)):
        x, y = i % columns * (width + GAP), i // columns * (head + height + GAP)
        for k, text in enumerate(reversed(caption)):
            pen.text((x, y + head - GAP // 2 - (k + 1) * line), text, fill=INK, font=font)
        sheet.paste(picture, (x + (width - picture.width) // 2, y + head))
    return sheet


def _wrap(text: str, font, width: int) -> list[str]:
    """Break text into lines of at most `width` px, between words where it can; no text is no lines."""
    lines = [""] if text.strip() else []
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if font.getlength(lines[-1] + letter) > width and lines[-1]:
                lines.append("")
            lines[-1] += letter
    return lines
