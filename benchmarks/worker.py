"""Time the named workloads in this process, with the threads that the environment gives; one JSON line for each."""

from __future__ import annotations

import gc
import json
import os
import sys

import torch

import needle_lab as ndl

from .timing import interleave
from .workloads import WORKLOADS, Contenders


def main(names: list[str]) -> None:
    threads = int(os.environ["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)
    ndl.set_num_threads(threads)
    for name in names:
        work = WORKLOADS[name]
        contenders = variants(work.make())
        timings = interleave(contenders, threads, work.seconds, least_rounds=work.least_rounds)
        base = timings["torch"]
        print(json.dumps({"name": name, "threads": threads, "contenders": {
            key: {"median_seconds": timing.median, "ratio": timing.ratio(base), "rounds": len(timing.seconds)}
            for key, timing in timings.items()}}), flush=True)
        del contenders
        gc.collect()


def variants(contenders: Contenders) -> Contenders:
    """Our own calls twice where Numba is installed: with plain numpy, and with the [fast] kernels."""
    ours = [name for name in contenders if name in ("needle_lab", "plan")]
    result = {name: call for name, call in contenders.items() if name not in ours}
    for name in ours:
        label = "" if name == "needle_lab" else name + " "
        result[label + "numpy"] = with_fast(contenders[name], False)
        if ndl.fast_available():
            result[label + "fast"] = with_fast(contenders[name], True)
    return result


def with_fast(call, flag: bool):
    def run():
        ndl.use_kernels("fast" if flag else "numpy")
        return call()
    return run


if __name__ == "__main__":
    main(sys.argv[1:])
