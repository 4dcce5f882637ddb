"""Imports Ray, connects to a cluster, and reads Ray's errors. Other modules import Ray from here."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import InputError, OutOfService, RankSearchError
from rank_search.core.extras import require_extra

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reads it when it is imported
require_extra("ray", "ray", field="executor.kind")
import ray  # noqa: E402

# The only use of a private part of Ray: it has no public way to choose what it shows of the command line.
from ray._private import utils as ray_utils  # noqa: E402
from ray.exceptions import (  # noqa: E402
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEATHS",
    "RayError",
    "RayTaskError",
    "cause_of",
    "connect",
    "last_line",
    "on_this_node",
    "places_for",
    "ray",
]

# A worker has died, or Ray has killed it for its memory, or its node is gone before the results were fetched.
DEATHS = (RayActorError, WorkerCrashedError, OutOfMemoryError, ObjectLostError)


def connect(address: str | None) -> None:
    """Joins a cluster, or starts one on this machine if there is no address.

    Raises:
        InputError: the cluster can't be reached.
    """
    handler = signal.getsignal(signal.SIGTERM)
    # Ray shows the driver's command line to all users of the cluster. It may contain a storage's password.
    ray_utils.get_entrypoint_name = lambda: "rank_search run"
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"can't join the Ray cluster {address!r}: {reason}", field="executor.address") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray has replaced it


def on_this_node() -> Any:
    """A scheduling strategy that starts an actor on the node of the calling process."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def places_for(resources: Mapping[str, float]) -> int:
    """How many workers the living nodes of the cluster have resources for.

    Args:
        resources: name in lower case → amount that each worker needs.

    Raises:
        OutOfService: the cluster is gone.
    """
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    except RayError:
        raise OutOfService("the Ray cluster is gone; when it is back, run the same command to go on") from None
    amounts = [{name.lower(): amount for name, amount in node.items()} for node in nodes]
    return sum(min(math.floor(node.get(name, 0) / amount) for name, amount in resources.items()) for node in amounts)


def cause_of(error: RayTaskError) -> Exception:
    """The exception that a worker raised; an error with Ray's last line if it could not be sent."""
    cause = error.cause
    return cause if isinstance(cause, Exception) else RankSearchError(last_line(error))


def last_line(error: RayError) -> str:
    """Ray's message without the traceback before it."""
    return str(error).strip().splitlines()[-1]
