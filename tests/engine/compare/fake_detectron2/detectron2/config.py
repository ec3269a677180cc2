from pathlib import Path

import yaml


class CfgNode(dict):
    """Settings by attribute."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        _merge(self, yaml.safe_load(Path(cfg_filename).read_text(encoding="utf-8")))


def _merge(node: CfgNode, values: dict) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            _merge(node.setdefault(key, CfgNode()), value)
        else:
            node[key] = value


def get_cfg() -> CfgNode:
    return CfgNode(VERSION=2, MODEL=CfgNode(DEVICE="cuda", META_ARCHITECTURE="GeneralizedRCNN", MASK_ON=False))
