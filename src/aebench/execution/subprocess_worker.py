"""A process for one job, started by a Dask worker with the job's limits in its environment.

It reads the job from its standard input, and writes what the job reports and returns to its standard output. It ends
when the input does.
"""

import os
import pickle
import sys
import threading


def main() -> None:
    """Run the job; what it returns or raises goes to the worker."""
    # Nothing but messages may reach the worker by this way.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    packed, data = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_watch, daemon=True).start()

    def send(kind: str, value: object) -> None:
        pickle.dump((kind, value), out)
        out.flush()

    try:
        from aebench.numerics import begin

        begin()
        job = pickle.loads(packed)
        send("result", job(data, lambda *progress: send("progress", progress)))
    except Exception as error:  # whatever it is, it is the stage's to raise
        send("error", error)


def _watch() -> None:
    """End this process when its worker is gone."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
