"""Ray's cluster and Ray's errors, as the executor sees them."""

import signal
import sys

import pytest
import ray
from ray.exceptions import RayError, RayTaskError

from rank_search.core.errors import InputError, OutOfService, RankSearchError
from rank_search.executors import ray_session
from rank_search.executors.ray_session import cause_of, connect, last_line, places_for


def node(alive: bool = True, **resources: float) -> dict:
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"cpu": 1.0}, 7),
        ({"cpu": 2.0}, 3),  # parts of a node are no place
        ({"cpu": 0.5}, 14),
        ({"gpu": 1.0}, 2),
        ({"cpu": 1.0, "gpu": 0.5}, 3),  # of the node with GPUs, which has three CPUs
        ({"tpu": 1.0}, 0),
    ],
)
def test_places_are_counted_on_living_nodes(monkeypatch, resources, expected) -> None:
    nodes = [node(CPU=4), node(CPU=3, GPU=2), node(alive=False, CPU=64, GPU=8)]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert places_for(resources) == expected


def test_cluster_that_is_gone_stops_the_run(monkeypatch) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: (_ for _ in ()).throw(RayError("lost")))
    with pytest.raises(OutOfService, match=r"the Ray cluster is gone; .* run the same command to go on"):
        places_for({"cpu": 1.0})


def test_cluster_that_is_not_there_is_named(monkeypatch) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("no\n cluster")))
    with pytest.raises(InputError, match=r"executor.address: can't join the Ray cluster 'auto': no cluster"):
        connect("auto")


def test_signal_handler_is_put_back_and_the_command_line_is_hidden(monkeypatch) -> None:
    """Ray shows the command line to all users of the cluster; it may hold a storage's password."""
    before = signal.getsignal(signal.SIGTERM)
    shown = []

    def init(**options) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        shown.append((options["address"], ray_session.ray_utils.get_entrypoint_name()))

    monkeypatch.setattr(ray_session.ray_utils, "get_entrypoint_name", lambda: "run --storage postgresql://u:secret@h")
    monkeypatch.setattr(ray, "init", init)
    connect("auto")
    assert shown == [("auto", "rank_search run")]
    assert signal.getsignal(signal.SIGTERM) == before


def test_workers_exception_is_its_cause_or_rays_last_line() -> None:
    cause = ValueError("of the worker")
    assert cause_of(RayTaskError("train", "trace", cause)) is cause
    lost = RayTaskError("train", "Traceback\n  in a file\nKeyError: 'w'\n", None)
    found = cause_of(lost)
    assert isinstance(found, RankSearchError)
    assert "KeyError: 'w'" in str(found)
    assert last_line(RayError("trace\nthe last\n")) == "the last"


def test_without_ray_the_message_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "rank_search.executors.ray_session")
    with pytest.raises(
        InputError, match=r"executor\.kind: ray needs ray, which is not installed; pip install 'rank_search\[ray\]'"
    ):
        import rank_search.executors.ray_session  # noqa: F401
