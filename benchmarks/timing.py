"""Interleaved timing: in every round each contender runs once, so that what slows the machine slows all of them.

With one thread the clock is the process's CPU time, which other programs on the machine hardly touch; with several it
is wall time, and every contender is given the same number of threads. What is compared is the ratio within a round;
its median and its quartiles are reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

LEAST_BLOCK = 0.02            # seconds that a contender runs for in a round: shorter calls are repeated


@dataclass
class Timing:
    """Seconds of one call, for each round."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def ratio(self, other: Timing) -> tuple[float, float, float]:
        """Median and quartiles of this contender's time over the other's, round by round."""
        ratios = sorted(a / b for a, b in zip(self.seconds, other.seconds, strict=False))
        return statistics.median(ratios), ratios[len(ratios) // 4], ratios[(3 * len(ratios)) // 4]


def interleave(contenders: dict[str, Callable[[], object]], threads: int, seconds: float = 8.0, rounds: int = 31,
               least_rounds: int = 5) -> dict[str, Timing]:
    """Time all contenders in turn, for about `seconds` in all; a slow one (20 times the fastest) runs in few rounds."""
    clock = time.process_time if threads == 1 else time.perf_counter
    repeats, first = {}, {}
    for name, call in contenders.items():
        for _ in range(2):                             # warm: caches, compiled kernels, first pages; long calls once
            start = clock()
            call()
            first[name] = max(clock() - start, 1e-7)
            if first[name] > 1:
                break
        repeats[name] = max(1, round(LEAST_BLOCK / first[name]))
    fastest = min(first.values())
    slow = {name for name in contenders if first[name] > 20 * fastest and first[name] > 0.2}
    timings = {name: Timing([]) for name in contenders}
    began = time.perf_counter()
    for i in range(rounds):
        if i >= least_rounds and time.perf_counter() - began > seconds:
            break
        for name in (list(contenders) if i % 2 == 0 else list(contenders)[::-1]):
            if name in slow and i >= 3:
                continue
            start = clock()
            for _ in range(repeats[name]):
                contenders[name]()
            timings[name].seconds.append((clock() - start) / repeats[name])
    return timings
