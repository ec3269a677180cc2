"""The published panoptic set beside the repository, for conformance; tests of it skip where it is not there."""

from pathlib import Path

import pytest

PANOPTIC = Path(__file__).resolve().parents[3] / "shared" / "data" / "panoptic"
needs_shared = pytest.mark.skipif(not PANOPTIC.is_dir(), reason=f"{PANOPTIC} is not there")
