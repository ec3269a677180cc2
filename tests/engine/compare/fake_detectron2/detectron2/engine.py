import math

from detectron2.utils.events import get_event_storage


class SimpleTrainer:
    def __init__(
        self,
        model,
        data_loader,
        optimizer,
        gather_metric_period=1,
        zero_grad_before_forward=False,
        async_write_metrics=False,
    ):
        model.train()
        self.model, self.data_loader, self.optimizer = model, data_loader, optimizer
        self.iter = 0
        self._batches = None

    def run_step(self) -> None:
        assert self.model.training, "[SimpleTrainer] model was changed to eval mode!"
        if self._batches is None:
            self._batches = iter(self.data_loader)
        losses = self.model(next(self._batches))
        total = sum(losses.values())
        self.optimizer.zero_grad()
        total.backward()
        if not math.isfinite(total.item()):
            raise FloatingPointError(f"Loss became infinite or NaN at iteration={self.iter}!")
        seen = {name: value.item() for name, value in losses.items()}
        for name, value in {"total_loss": total.item(), "data_time": 0.0, **seen}.items():
            get_event_storage().put_scalar(name, value)
        self.optimizer.step()
