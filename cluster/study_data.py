"""The data of a study where every worker can reach them, and anything as a worker gets it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import ray
from ray import cloudpickle

from ..trainables.kind import Kind

_FETCHED: dict[str, Any] = {}  # the training data of the one study whose trials this process runs


def fetched_once(key: str, fetch: Callable[[], Any]) -> Any:
    """What ``fetch`` gives, kept for all the trials of a study that follow each other in this process.

    Args:
        key: tells the data of one study from another's.
        fetch: brings them here.
    """
    if key not in _FETCHED:
        _FETCHED.clear()
        _FETCHED[key] = fetch()
    return _FETCHED[key]


@dataclass(frozen=True, eq=False)
class InStore:
    """Data that fit into memory, as two values in Ray's object store; a ``trainables.kind.StudyData``."""

    training: ray.ObjectRef
    tested: ray.ObjectRef
    key: str = field(default_factory=lambda: uuid4().hex)

    def training_data(self) -> Any:
        return ray.get(self.training)

    def worker_data(self) -> Any:
        return fetched_once(self.key, self.training_data)

    def test(self) -> Any:
        return ray.get(self.tested)


def put(kind: Kind, data: Any, settings: Any) -> InStore:
    """Read the data of a study and put them into the object store.  Raises DatasetError."""
    data.verify()
    training, test = kind.split_for_training(data, settings)
    return InStore(ray.put(training), ray.put(test))


def travelled(thing: Any) -> Any:
    """A copy of a thing, as another process gets it.  Raises what pickling raises: it cannot be sent."""
    return cloudpickle.loads(cloudpickle.dumps(thing))
