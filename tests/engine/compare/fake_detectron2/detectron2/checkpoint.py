from pathlib import Path

import torch


class DetectionCheckpointer:
    def __init__(self, model, save_dir: str = "", *, save_to_disk=None, **checkpointables):
        assert not checkpointables
        self.model, self.save_dir = model, Path(save_dir)

    def save(self, name: str, **kwargs) -> None:
        torch.save({"model": self.model.state_dict(), **kwargs}, self.save_dir / f"{name}.pth")
        (self.save_dir / "last_checkpoint").write_text(f"{name}.pth")

    def load(self, path: str, *args, **kwargs) -> dict:
        assert isinstance(path, str)
        assert Path(path).is_file(), f"Checkpoint {path} not found!"
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(checkpoint.pop("model"), strict=False)
        return checkpoint
