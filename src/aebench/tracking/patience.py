"""A store that does not answer costs seconds, whatever it does instead of answering."""

import signal
import threading
from collections.abc import Callable
from typing import Any

PATIENCE = 12.0  # seconds for one answer; requests are given up before, unless a server answers drop by drop
HURRY = 3.0  # for what is asked of a store that may have fallen silent just now


class NoAnswer(BaseException):
    """The store is silent; no `except Exception` on the way up takes it for an answer."""


class Patient:
    """An object whose methods end within `seconds`, or raise `NoAnswer`.

    Waiting is broken off by a signal, which only a main thread receives: elsewhere the limits are those of the object.
    """

    def __init__(self, of: Any, seconds: float = PATIENCE) -> None:
        self._of = of
        self._seconds = seconds

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._of, name)
        if threading.current_thread() is not threading.main_thread():
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            def give_up(*_: object) -> None:
                raise NoAnswer(f"no answer within {self._seconds:g} seconds")

            before = signal.signal(signal.SIGALRM, give_up)
            signal.setitimer(signal.ITIMER_REAL, self._seconds)
            try:
                return method(*arguments, **named)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)

        return call


def in_a_hurry(client: Any) -> Patient:
    """The same client, or the one inside a `Patient`, with so little patience that another silence costs little."""
    return Patient(client._of if isinstance(client, Patient) else client, HURRY)
