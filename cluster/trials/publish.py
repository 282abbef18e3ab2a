"""How the data of each kind get to the workers.  A kind without a line here has data that fit into memory."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ...trainables.kind import Kind, StudyData
from ...trainables.progress import Progress
from ..descriptors.grid_points import published_grid_points
from ..study_data import put

Publish = Callable[[Any, Any, Progress], AbstractContextManager[StudyData]]

PUBLISH: dict[str, Publish] = {"ldos": published_grid_points}


@contextmanager
def published(kind: Kind, data: Any, settings: Any, progress: Progress) -> Iterator[StudyData]:
    """The data of a study, within reach of all workers inside the block.

    Args:
        kind: of the data.
        data: the open dataset.
        settings: the kind's own table of the study file.
        progress: where to say how far it is; what it raises ends the work.

    Raises:
        DatasetError: a split is empty, or a file missing or damaged.
    """
    if kind.name in PUBLISH:
        with PUBLISH[kind.name](data, settings, progress) as found:
            yield found
    else:
        yield put(kind, data, settings)
