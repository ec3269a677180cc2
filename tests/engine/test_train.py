"""The loop, and that a run can be cut off anywhere."""

import errno
import json
import os
import signal
import threading
from dataclasses import replace

import pytest
import torch

from course_lib.detectors.presets import get_preset
from course_lib.engine import train
from course_lib.engine.checkpoint import LAST, LOG, WEIGHTS, load_tensors
from course_lib.engine.recipe import Recipe
from course_lib.engine.train import _interrupt_flag, fast_memory_format, learning_rate_factor, make_optimizer, read_log
from course_lib.weights import files
from tests.detectors.models import SMALL, small, target


def same(a, b):
    """Whether two safetensors files hold the same tensors, bit for bit."""
    a, b = load_tensors(a)[0], load_tensors(b)[0]
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Killed(BaseException):
    """Stands for a power cut: nothing may catch it."""


def cut_off(trainer, iteration: int) -> None:
    """Run until `iteration` steps are done and saved, then stop dead."""
    step = trainer.step

    def until():
        if trainer.iteration == iteration:
            raise Killed
        return step()

    trainer.step = until
    with pytest.raises(Killed):
        trainer.run()


# The schedule and the optimizer


def test_learning_rate_by_hand():
    assert learning_rate_factor(0.0, 0.1) == pytest.approx(0.001 / 0.101)
    assert learning_rate_factor(0.05, 0.1) == pytest.approx(0.051 / 0.101)
    assert learning_rate_factor(0.1, 0.1) == 1
    assert learning_rate_factor(0.55, 0.1) == pytest.approx(0.505)  # half of the cosine: midway between 1 and 0.01
    assert learning_rate_factor(1.0, 0.1) == pytest.approx(0.01)
    assert learning_rate_factor(1.3, 0.1) == pytest.approx(0.01)  # a clock may run over
    assert learning_rate_factor(0.0, 0.0) == 1


def test_the_learning_rate_rises_then_falls():
    factors = [learning_rate_factor(i / 1000, 0.03) for i in range(1001)]
    assert factors[:31] == sorted(factors[:31])
    assert factors[30:] == sorted(factors[30:], reverse=True)
    assert min(factors) > 0
    assert max(factors) == 1


def test_vectors_are_not_decayed():
    model = small()
    optimizer = make_optimizer(model, Recipe(iterations=1, weight_decay=0.3))
    decayed, plain = optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert {p.ndim for p in plain["params"]} == {1}
    assert {p.ndim for p in decayed["params"]} == {4}
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_frozen_parameters_are_left_to_themselves():
    model = small()
    model.backbone.requires_grad_(False)
    params = [p for group in make_optimizer(model, Recipe(iterations=1)).param_groups for p in group["params"]]
    assert {id(p) for p in params} == {id(p) for p in model.parameters() if p.requires_grad}


def test_optimizers():
    sgd = make_optimizer(small(), Recipe(iterations=1, optimizer="sgd", learning_rate=0.25))
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["lr"]) == (0.9, 0.25)
    assert isinstance(make_optimizer(small(), Recipe(iterations=1)), torch.optim.AdamW)
    with pytest.raises(ValueError, match="unknown optimizer 'lion': expected adamw or sgd"):
        make_optimizer(small(), Recipe(iterations=1, optimizer="lion"))


# The moving average


def test_the_average_follows_the_weights(trainer):
    t = trainer(ema=0.99)
    start = {k: v.clone() for k, v in t.average.items()}
    t.step()
    name = "class_head.predictor.weight"
    weight, average = t.model.state_dict()[name], t.average[name]
    moved = (weight - start[name]).abs() > 1e-7
    share = ((average - start[name]) / (weight - start[name]))[moved]
    assert moved.any()
    assert 0 < share.min() <= share.max() <= 1.001  # between the old and the new, nowhere beyond
    assert share.std() < 1e-2
    counter = "backbone.bn1.num_batches_tracked"
    assert t.average[counter] == t.model.state_dict()[counter] == 1


def test_without_decay_the_average_is_the_weights(trainer):
    t = trainer(ema=0.0)
    for _ in range(2):
        t.step()
        t.iteration += 1
    assert all(torch.allclose(t.average[k], v) for k, v in t.model.state_dict().items())


def test_the_average_is_lent_to_the_model(trainer):
    t = trainer()
    t.step()
    own = {k: v.clone() for k, v in t.model.state_dict().items()}
    with pytest.raises(ZeroDivisionError), t.averaged() as model:
        assert all(torch.equal(v, t.average[k]) for k, v in model.state_dict().items())
        raise ZeroDivisionError
    assert all(torch.equal(v, own[k]) for k, v in t.model.state_dict().items())
    assert not torch.equal(own["class_head.predictor.weight"], t.average["class_head.predictor.weight"])


# A whole run


def test_what_a_run_leaves(trainer, tmp_path, val_data):
    t = trainer(val=val_data, header={"preset": "p"}, iterations=6, evaluations=3)
    t.run()
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted([LOG, LAST, WEIGHTS])
    weights, header = load_tensors(tmp_path / "run" / WEIGHTS)
    assert header["preset"] == "p"
    assert header["iterations"] == 6
    assert all(torch.equal(weights[k], v) for k, v in t.average.items())
    assert load_tensors(tmp_path / "run" / LAST)[1]["iteration"] == 6
    records = read_log(tmp_path / "run" / LOG)
    assert [r["iteration"] for r in records] == [2, 4, 6]  # a third, two thirds, the end
    assert [("AP" in r) for r in records] == [True, True, False]  # the end is judged by `course evaluate`
    assert {"minutes", "lr", "classification", "bbox_regression"} <= set(records[0])
    assert t.last_ap == records[1]["AP"]
    assert t.model.training


def test_the_log_without_validation_data(trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "LOG_EVERY", 5)
    t = trainer(iterations=12, evaluations=3)
    t.run()
    assert [r["iteration"] for r in read_log(tmp_path / "run" / LOG)] == [4, 5, 8, 10, 12]
    assert t.last_ap is None


def test_minutes_follow_the_clock(trainer, capsys, monkeypatch):
    monkeypatch.setattr(train, "LOG_EVERY", 2)
    t = trainer(iterations=None, minutes=0.01)
    t.progress = True
    t.run()
    assert t.iteration >= 1
    assert t.seconds >= 0.6
    assert t.progress_made() >= 1
    assert t.optimizer.param_groups[0]["lr"] < t.recipe.peak_rate
    assert "s [" in capsys.readouterr().err  # the bar


def test_the_bar_counts_iterations(trainer, capsys, val_data, monkeypatch):
    monkeypatch.setattr(train, "LOG_EVERY", 2)
    t = trainer(val=val_data, iterations=4, evaluations=2)
    t.progress = True
    t.run()
    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "loss=" in shown
    assert "AP=" in shown


def test_whoever_watches_is_told(trainer, monkeypatch):
    monkeypatch.setattr(train, "LOG_EVERY", 2)
    told = []
    t = trainer(iterations=4, evaluations=1)
    t.watch = lambda told_by, loss: told.append((told_by.iteration, loss))
    t.run()
    assert [iteration for iteration, _ in told] == [2, 4]
    assert all(loss > 0 for _, loss in told)


@pytest.mark.slow
def test_the_loss_falls(trainer):
    t = trainer(iterations=60, batch_size=4, learning_rate=5e-3, augmentation="flip")
    first = sum(v.item() for v in t.step().values())
    t.run()
    assert sum(v.item() for v in t.step().values()) < 0.6 * first


def test_channels_last_but_where_it_crashes():
    assert fast_memory_format(get_preset("tiny").build(2)) is torch.channels_last
    narrow = small(backbone=replace(SMALL.backbone, stem_width=8)).train()
    assert fast_memory_format(narrow) is torch.contiguous_format
    losses = narrow(torch.rand(2, 3, 256, 256), [target([[9, 9, 60, 60]], [0])] * 2)
    sum(losses.values()).backward()  # in channels-last the process would be gone
    assert all(torch.isfinite(p.grad).all() for p in narrow.parameters())


def test_the_gradient_is_clipped(trainer):
    steps = []
    for clip in (1e-12, 10.0):
        t = trainer(clip=clip, optimizer="sgd", weight_decay=0.0, warmup=0.0)
        before = t.model.class_head.predictor.weight.detach().clone()
        t.step()
        steps.append((t.model.class_head.predictor.weight - before).abs().max().item())
    assert steps[0] < 1e-12 < steps[1]


def test_bf16_trains(trainer):
    t = trainer(precision="bf16", iterations=2)
    t.run()
    assert all(v.dtype != torch.bfloat16 for v in t.average.values())
    assert all(torch.isfinite(v).all() for v in t.average.values())


# Repeatable, resumable


@pytest.mark.parametrize("options", [{}, {"optimizer": "sgd"}])
def test_the_same_seed_gives_the_same_bits(trainer, tmp_path, options):
    for out, seed in (("a", 3), ("b", 3), ("c", 4)):
        trainer(out, seed=seed, iterations=4, **options).run()
        torch.rand(3)  # the global generator plays no part once the model is made
    assert same(tmp_path / "a" / LAST, tmp_path / "b" / LAST)
    assert same(tmp_path / "a" / WEIGHTS, tmp_path / "b" / WEIGHTS)
    assert not same(tmp_path / "a" / WEIGHTS, tmp_path / "c" / WEIGHTS)


def test_what_a_detector_draws_depends_on_seed_and_iteration(trainer):
    t = trainer(seed=3)
    t.model.generator = torch.Generator()
    drawn, forward = [], t.model.forward

    def draw(*arguments):
        drawn.append(torch.rand(2, generator=t.model.generator).tolist())
        return forward(*arguments)

    t.model.forward = draw
    for t.iteration in (0, 1, 0):
        t.step()
    assert drawn[0] == drawn[2] != drawn[1]


@pytest.mark.parametrize("options", [{}, {"optimizer": "sgd"}])
def test_a_run_that_was_cut_off_ends_in_the_same_bits(trainer, tmp_path, monkeypatch, val_data, options):
    monkeypatch.setattr(train, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(train, "LOG_EVERY", 1)
    trainer("whole", val=val_data, evaluations=3, **options).run()
    cut_off(trainer("cut", val=val_data, evaluations=3, **options), 3)
    assert not (tmp_path / "cut" / WEIGHTS).exists()
    again = trainer("cut", val=val_data, evaluations=3, **options)
    assert again.resume() is True
    assert again.iteration == 3
    assert again.last_ap == read_log(tmp_path / "cut" / LOG)[1]["AP"]
    again.run()
    assert same(tmp_path / "whole" / LAST, tmp_path / "cut" / LAST)
    assert same(tmp_path / "whole" / WEIGHTS, tmp_path / "cut" / WEIGHTS)
    times = {"minutes": None}
    whole, cut = ([{**r, **times} for r in read_log(tmp_path / out / LOG)] for out in ("whole", "cut"))
    assert cut == whole


def test_a_run_cut_off_before_its_first_checkpoint_starts_again(trainer, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOG).write_text('{"iteration": 1}\n')
    t = trainer()
    assert t.resume() is False
    assert t.iteration == 0
    assert read_log(tmp_path / "run" / LOG) == []


def test_the_log_goes_back_to_the_checkpoint(trainer, tmp_path):
    t = trainer(iterations=3)
    t.run()
    log = tmp_path / "run" / LOG
    log.write_text("".join(json.dumps({"iteration": i}) + "\n" for i in (1, 3, 4, 7)) + '{"iterat')
    t.resume()
    assert log.read_text() == '{"iteration": 1}\n{"iteration": 3}\n'


def test_a_finished_run_stays_as_it_is(trainer, tmp_path):
    trainer().run()
    before = (tmp_path / "run" / LAST).read_bytes()
    again = trainer()
    again.resume()
    again.run()
    assert (tmp_path / "run" / LAST).read_bytes() == before


def test_read_log(tmp_path):
    path = tmp_path / LOG
    assert read_log(path) == []
    path.write_text('{"iteration": 1}\n{"iteration": 2, "AP": null}\n{"iteration')
    assert read_log(path) == [{"iteration": 1}, {"iteration": 2, "AP": None}]


def test_a_checkpoint_of_another_model(trainer, tmp_path):
    trainer().run()
    t = trainer()
    t.model = get_preset("tiny").build(2)
    with pytest.raises(ValueError, match=r"last\.safetensors: the weights are of another model"):
        t.resume()


def test_a_checkpoint_that_is_none(trainer, tmp_path):
    t = trainer()
    torch.save({"model": 1}, tmp_path / "run" / LAST)
    with pytest.raises(ValueError, match="a pickle or PyTorch archive, refused"):
        t.resume()


# What goes wrong on the way


def test_a_full_disk_leaves_the_last_checkpoint(trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SAVE_EVERY", 0.0)
    t, save_file = trainer(), files.save_file

    def until_full(tensors, path, metadata):
        if t.iteration == 4:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(tensors, path, metadata=metadata)

    monkeypatch.setattr(files, "save_file", until_full)
    with pytest.raises(OSError, match=r"cannot write .*last\.safetensors: .*No space left on device"):
        t.run()
    assert load_tensors(tmp_path / "run" / LAST)[1]["iteration"] == 3
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [LAST, LOG]
    monkeypatch.setattr(files, "save_file", save_file)  # space again: the run goes on
    again = trainer()
    assert again.resume()
    again.run()
    trainer("whole").run()
    assert same(tmp_path / "run" / WEIGHTS, tmp_path / "whole" / WEIGHTS)


def test_a_loss_that_is_not_finite_names_iteration_and_images(trainer, tmp_path):
    t = trainer()
    t.step()
    t.iteration = 1
    before = {k: v.clone() for k, v in t.average.items()}
    expected = [target["image_id"] for target in t.batches[1][1]]
    with torch.no_grad():
        t.model.class_head.predictor.bias[0] = float("nan")
    with pytest.raises(ValueError, match=r"iteration 1: the loss is not finite .*'classification': nan") as error:
        t.step()
    assert str(error.value).endswith(f"on images {expected}")
    assert all(torch.equal(v, before[k]) for k, v in t.average.items() if v.is_floating_point())


def test_ctrl_c_finishes_the_step_and_saves(trainer, tmp_path):
    t = trainer(iterations=50)
    step, handler = t.step, signal.getsignal(signal.SIGINT)

    def interrupted():
        if t.iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step()

    t.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        t.run()
    assert t.iteration == 3
    assert load_tensors(tmp_path / "run" / LAST)[1]["iteration"] == 3
    assert signal.getsignal(signal.SIGINT) is handler
    again = trainer(iterations=50)
    assert again.resume()
    assert again.iteration == 3


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), _interrupt_flag() as flag:
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second one went unheard")


def test_in_another_thread_ctrl_c_is_left_to_the_main_one():
    found = []

    def work():
        with _interrupt_flag() as flag:
            found.append((flag.is_set(), signal.getsignal(signal.SIGINT)))

    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, handler)]
