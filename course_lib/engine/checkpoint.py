"""The files of a run folder; how they are written and read is in `weights/files.py`.

`config.json` holds the settings, `log.jsonl` one record a line, `last.safetensors` everything that training needs to go
on, and `weights.safetensors` what prediction needs: weights, model settings, label map.
"""

from course_lib.weights.files import load_tensors, save_tensors, write_text

__all__ = ["CONFIG", "LAST", "LOG", "WEIGHTS", "load_tensors", "save_tensors", "write_text"]

CONFIG, LOG, LAST, WEIGHTS = "config.json", "log.jsonl", "last.safetensors", "weights.safetensors"
