"""Configs trained with all initialisations at once, in one process of the cluster, and judged on the test data."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ...trainables.kind import StudyData, TrialConfig
from ..model.model import Model, made_with
from ..progress import Progress
from ..spec import StudySpec

if TYPE_CHECKING:
    from ...cluster.trials.retraining import Retrained

FIRST_SEED = 1_000_000  # seeds of these trainings are those of trials from this number on


class Trainer:
    """Trains configs of a study, one after the other.  A context: at its end the process on the cluster is ended.

    Args:
        spec: of the study.
        data: of the study, on the cluster.
        sizes: of the data, as ``Kind.sizes``.
        gpus: of the process: 0 or 1.
        progress: where to say how far it is.
        check: called now and then; what it raises ends the training.
        scratch: a folder where what the next training would make again is kept.

    Raises:
        ClusterError: no node has room for it.
    """

    def __init__(
        self,
        spec: StudySpec,
        data: StudyData,
        sizes: Mapping[str, int],
        *,
        gpus: int,
        progress: Progress,
        check: Callable[[], None] = lambda: None,
        scratch: Path | None = None,
    ) -> None:
        from ...cluster.resources import MemoryShare, most_cpus
        from ...cluster.trials.retraining import Retrainer

        self._spec, self._data, self._sizes = spec, data, sizes
        self._progress, self._check, self._scratch = progress, check, scratch
        self._seeds = [spec.trial_seed(FIRST_SEED + t) for t in range(spec.initializations)]
        self._cpus = most_cpus(spec.resources.cpus, gpus)
        self._memory = MemoryShare(spec.resources.memory)
        self._actor = Retrainer.options(num_cpus=self._cpus, num_gpus=gpus).remote()  # type: ignore[attr-defined]
        self.seconds: dict[str, float] = {}  # of each stage

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        ray.kill(self._actor)

    def __call__(self, config: TrialConfig, stage: str) -> "Retrained":
        """Train a config.

        Args:
            config: all hyperparameters.
            stage: what it is called where progress is shown.

        Raises:
            RayError: the process died, or the training failed, which is its cause.
        """
        job = self._actor.run.remote(
            self._spec.of_kind,
            config.model_dump(),
            self._sizes,
            self._data,
            self._seeds,
            self._cpus,
            self._memory,
            self._scratch,
        )
        found: Retrained = self._awaited(job, config, stage)
        return found

    def alone(self, config: TrialConfig, stage: str) -> "Retrained | None":
        """The first network of a config alone, which the next training of the same config goes on from.

        None where the kind makes all of them as soon, or there is only one.  Arguments and errors as above.
        """
        if len(self._seeds) == 1:
            return None
        kind, seed = self._spec.of_kind, self._seeds[0]
        job = self._actor.alone.remote(kind, config.model_dump(), self._data, seed, self._cpus, self._scratch)
        found: Retrained | None = self._awaited(job, config, stage)
        return found

    def _awaited(self, job: Any, config: TrialConfig, stage: str) -> Any:
        """What the job gives; meanwhile how far it is."""
        import ray

        spec, actor, started, asked = self._spec, self._actor, time.perf_counter(), None
        while not ray.wait([job], timeout=0.5)[0]:
            self._check()
            asked = asked or actor.progress.remote()
            if ray.wait([asked], timeout=0)[0]:  # a busy cluster may keep it waiting for its CPUs
                last, asked = ray.get(asked), None
                text = f"{spec.value_name} {last[spec.metric]:.4g}" if spec.metric in last else ""
                self._progress.update(stage, *last.get("step", (last["epoch"], config.epochs, text)))
        found = ray.get(job)
        if found is not None:
            self._progress.update(stage, config.epochs, config.epochs)
        self._progress.end(stage)
        self.seconds[stage] = time.perf_counter() - started
        return found


def model_of(spec: StudySpec, data: Any, config: TrialConfig, found: "Retrained") -> Model:
    """The surrogate of a config that was trained.

    Args:
        spec: of the study.
        data: its dataset, open.
        config: all hyperparameters.
        found: what ``Trainer`` gave.
    """
    kind = spec.of_kind
    card = kind.card(spec.name, data, spec.settings, config, list(found.seeds), found.judgement.accuracy)
    card = card.model_copy(update={"versions": made_with(kind)})
    return Model.assemble(card, found.tensors, kind)


def save(model: Model, folder: Path, found: "Retrained") -> None:
    """Write a surrogate to ``folder/model``, in place of one that is there, and figures to ``folder/figures``."""
    save_alone(model, folder)
    found.judgement.draw(folder / "figures")


def save_alone(model: Model, folder: Path) -> None:
    """The same without figures."""
    import shutil

    shutil.rmtree(folder / "model", ignore_errors=True)
    model.save(folder / "model")
