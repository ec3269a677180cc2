"""The two-way table between contiguous labels 0..K-1 and the category ids of a COCO file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LabelMap:
    """Names and COCO category ids of the labels 0..K-1; foreground only, there is no background label.

    names: K class names. category_ids: K distinct COCO ids, in the same order.
    Raises ValueError when the two differ in length or an id is repeated.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.category_ids):
            raise ValueError(f"label map: {len(self.names)} names for {len(self.category_ids)} category ids")
        if len(set(self.category_ids)) != len(self.category_ids):
            raise ValueError(f"label map: category ids repeat: {self.category_ids}")

    def __len__(self) -> int:
        """Number of classes K."""
        return len(self.names)

    @classmethod
    def from_categories(cls, categories: Sequence[Mapping]) -> "LabelMap":
        """Build from a COCO `categories` list; labels follow the category ids in rising order."""
        ordered = sorted(categories, key=lambda category: category["id"])
        return cls(tuple(c["name"] for c in ordered), tuple(c["id"] for c in ordered))

    @property
    def labels(self) -> dict[int, int]:
        """COCO category id -> label."""
        return {category_id: label for label, category_id in enumerate(self.category_ids)}

    def to_dict(self) -> dict[str, list]:
        """Plain lists for JSON and for the metadata of weights."""
        return {"names": list(self.names), "category_ids": list(self.category_ids)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Sequence]) -> "LabelMap":
        """Inverse of `to_dict`."""
        return cls(tuple(data["names"]), tuple(data["category_ids"]))
