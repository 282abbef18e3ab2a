"""Claim: ASHA and HyperBand save half of the training compute of a random search, at a small loss of quality.

Runs examples/al4.toml with method random, once without scheduler and once with each, with equal seeds and so with equal
configs and initial weights; prints the share of grid points x epochs that was trained and the regret: the value of the
chosen trial over that of the best trial without a scheduler, minus one.

    python benchmarks/schedulers.py [n_trials=20] [seed=0] [scheduler ...]
"""

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from dftune.platform.ledger.trial import LedgerTrial
from dftune.platform.progress import Plain
from dftune.platform.spec import Scheduler, StudySpec
from dftune.platform.study.study import Study


def trials_of(spec: StudySpec) -> list[LedgerTrial]:
    """All trials of a study that has run to its end."""
    with tempfile.TemporaryDirectory() as folder:
        study = Study.from_spec(spec, Path(folder))
        study.run(progress=Plain())
        return study.trials()


def main() -> None:
    n_trials, seed = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((1, 20), (2, 0)))
    kinds = sys.argv[3:] or ["asha", "median", "hyperband"]
    common = {"name": "schedulers", "method": "random", "options": {}, "trials": n_trials, "initializations": 1}
    example = StudySpec.read(Path(__file__).parents[1] / "examples" / "al4.toml")
    spec = example.model_copy(update=common | {"seed": seed})
    whole = trials_of(spec)
    for kind in kinds:
        trials = trials_of(spec.model_copy(update={"scheduler": Scheduler(type=kind)}))
        assert [t.config for t in trials] == [t.config for t in whole]
        trained, all_of_them = (sum(t.result["grid_points"] for t in some) for some in (trials, whole))
        best, without = (min(t.value for t in some if t.value is not None) for some in (trials, whole))
        row = {
            "scheduler": kind,
            "trials": n_trials,
            "seed": seed,
            "stopped": sum(t.state == "stopped" for t in trials),
            "share_of_compute": trained / all_of_them,
            "share_of_seconds": sum(t.seconds or 0 for t in trials) / sum(t.seconds or 0 for t in whole),
            "value": best,
            "value_without": without,
            "regret": best / without - 1,
        }
        print(json.dumps(row | {"ray": version("ray"), "torch": version("torch")}), flush=True)


if __name__ == "__main__":
    main()
