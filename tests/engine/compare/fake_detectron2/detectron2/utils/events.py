_STACK = []


def get_event_storage():
    assert _STACK, "get_event_storage() has to be called inside a 'with EventStorage(...)' context!"
    return _STACK[-1]


class EventStorage:
    def __init__(self, start_iter=0):
        self.iter, self._latest = start_iter, {}

    def put_scalar(self, name: str, value: float, smoothing_hint: bool = True) -> None:
        self._latest[name] = (float(value), self.iter)

    def latest(self) -> dict:
        return self._latest

    def __enter__(self):
        _STACK.append(self)
        return self

    def __exit__(self, *_) -> None:
        assert _STACK.pop() is self
