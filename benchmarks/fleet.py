"""A cluster on paper: workers that ask one driver, train, and are lost with their node."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Fleet:
    """A cluster on paper.

    Attributes:
        gpus: one worker each.
        node: GPUs of a node, which are lost together.
        minutes: of a trial; evenly spread by ``spread`` of it to both sides.
        losses: nodes lost an hour, by chance.
        away: minutes until a lost node is back.
        load: minutes until a new worker can train.
        driver: seconds of the driver for a trial, one after another.
    """

    driver: float
    gpus: int = 256
    node: int = 8
    minutes: float = 20.0
    spread: float = 0.3
    losses: float = 1.0
    away: float = 15.0
    load: float = 2.0


def simulated(fleet: Fleet, hours: float = 48.0) -> dict[str, Any]:
    """What becomes of a fleet: workers ask the driver one by one, train, and are lost with their node."""
    draw, end = random.Random(0), hours * 3600
    nodes = fleet.gpus // fleet.node
    epoch = [0] * nodes  # how often each was lost
    # Moments: (second, kind, node, its epoch, worker, seconds of training).
    moments: list[tuple[float, str, int, int, int, float]] = []
    for worker in range(fleet.gpus):
        heapq.heappush(moments, (60 * fleet.load, "free", worker // fleet.node, 0, worker, 0.0))
    heapq.heappush(moments, (draw.expovariate(fleet.losses / 3600), "loss", 0, 0, 0, 0.0))
    free_driver, busy_driver, useful, done, lost, waits = 0.0, 0.0, 0.0, 0, 0.0, []
    begun: dict[int, float] = {}
    while moments and (moment := heapq.heappop(moments))[0] < end:
        now, kind, node, at_epoch, worker, seconds = moment
        if kind == "loss":
            node = draw.randrange(nodes)
            epoch[node] += 1
            for worker in range(node * fleet.node, (node + 1) * fleet.node):
                lost += max(0.0, now - begun.pop(worker, now))  # it may still wait for the driver
                back = now + 60 * (fleet.away + fleet.load)
                heapq.heappush(moments, (back, "free", node, epoch[node], worker, 0.0))
            heapq.heappush(moments, (now + draw.expovariate(fleet.losses / 3600), "loss", 0, 0, 0, 0.0))
            continue
        if at_epoch != epoch[node]:
            continue
        if kind == "done":
            useful, done = useful + seconds, done + 1
            begun.pop(worker)
        starts = max(now, free_driver) + fleet.driver
        free_driver = starts
        busy_driver += max(0.0, min(starts, end) - min(starts - fleet.driver, end))
        waits.append(starts - now)
        takes = 60 * fleet.minutes * draw.uniform(1 - fleet.spread, 1 + fleet.spread)
        begun[worker] = starts
        heapq.heappush(moments, (starts + takes, "done", node, epoch[node], worker, takes))
    return {
        "trials": done,
        "utilisation": round(useful / (fleet.gpus * end), 3),
        "lost_to_nodes": round(lost / (fleet.gpus * end), 3),
        "driver_busy": round(busy_driver / end, 3),
        "median_wait_seconds": round(float(np.median(waits)), 1),
    }
