import errno
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from course_lib.weights import files
from course_lib.weights.files import load_tensors, save_tensors, write_text

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "half": torch.rand(3).to(torch.bfloat16),
    "step": torch.tensor(7),
    "nothing": torch.zeros(0, 4),
}


def test_round_trip(tmp_path):
    header = {"iteration": 3, "AP": None, "name": "Straße ✓", "nested": {"list": [1, 2.5]}}
    save_tensors(tmp_path / "x.safetensors", TENSORS, header)
    tensors, found = load_tensors(tmp_path / "x.safetensors")
    assert found == header
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_any_memory_format_and_gradients(tmp_path):
    weight = torch.rand(2, 3, 4, 5, requires_grad=True).contiguous(memory_format=torch.channels_last)
    save_tensors(tmp_path / "x", {"w": weight, "transposed": torch.rand(3, 4).T}, {})
    tensors, _ = load_tensors(tmp_path / "x")
    assert torch.equal(tensors["w"], weight)
    assert tensors["w"].is_contiguous()


def full_disk(tensors, path, metadata):
    Path(path).write_bytes(b"half a file")
    raise OSError(errno.ENOSPC, "No space left on device")


def no_leave(*args, **kwargs):
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("failure, cause", [(full_disk, "No space left on device"), (no_leave, "Permission denied")])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, failure, cause):
    path = tmp_path / "last.safetensors"
    save_tensors(path, {"a": torch.ones(2)}, {"iteration": 1})
    before = path.read_bytes()
    monkeypatch.setattr(files, "save_file", failure)
    with pytest.raises(OSError, match=cause) as error:
        save_tensors(path, {"a": torch.zeros(2)}, {"iteration": 2})
    assert str(path) in str(error.value)
    assert "What was there before is untouched" in str(error.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_read_only_disk_on_which_nothing_can_be_removed_either(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    monkeypatch.setattr(Path, "write_text", no_leave)
    monkeypatch.setattr(Path, "unlink", no_leave)
    with pytest.raises(OSError, match=r"cannot write .*log\.jsonl: .*Permission denied"):
        write_text(path, "new")


def test_a_full_disk_while_text_is_written(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    write_text(path, "old ✓\n")
    monkeypatch.setattr(Path, "write_text", no_leave)
    with pytest.raises(OSError, match=r"cannot write .*log\.jsonl: .*Permission denied"):
        write_text(path, "new")
    assert path.read_bytes().decode() == "old ✓\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupt_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    def interrupted(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    path = tmp_path / "x"
    save_tensors(path, {"a": torch.ones(2)}, {})
    monkeypatch.setattr(files, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_tensors(path, {"a": torch.zeros(2)}, {})
    assert torch.equal(load_tensors(path)[0]["a"], torch.ones(2))
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match=r"cannot write .*none.*x"):
        save_tensors(tmp_path / "none" / "x", {"a": torch.ones(1)}, {})


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors: there is no such file"):
        load_tensors(tmp_path / "weights.safetensors")


class Bomb:
    """What a pickle may do to those who load it."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_refused_and_never_run(tmp_path):
    for name, write in (
        ("model.pt", lambda p: torch.save({"weight": torch.ones(2), "bomb": Bomb(tmp_path / "boom")}, p)),
        ("old.pth", lambda p: torch.save({"weight": torch.ones(2)}, p, _use_new_zipfile_serialization=False)),
        ("model.pkl", lambda p: p.write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))),
    ):
        write(tmp_path / name)
        with pytest.raises(ValueError, match="refused because loading one can run any program") as error:
            load_tensors(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
    assert not (tmp_path / "boom").exists()
    pickle.loads((tmp_path / "model.pkl").read_bytes())
    assert (tmp_path / "boom").exists()  # it would have been


@pytest.mark.parametrize("keep", [0, 4, 60, 200, -1])
def test_a_truncated_file(tmp_path, keep):
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, {"iteration": 3})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"x\.safetensors: not a readable safetensors file \(.+\); expected"):
        load_tensors(path)


def test_another_programs_safetensors(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"x\.safetensors: a safetensors file without this course's header"):
        load_tensors(path)
    save_file({"a": torch.ones(2)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="without this course's header"):
        load_tensors(path)


def test_what_is_no_weights_file_at_all(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_text(json.dumps({"a": 1}))
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_tensors(path)
