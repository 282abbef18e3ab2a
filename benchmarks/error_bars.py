"""Claim: error bars of a closed-form readout hold in larger cells, too, and tell what the training leaves open.

Three networks of 1 x 1,024 silu at 3.0 Å, 2J_max 8, on aluminium (../shared/data), calibrated on the validation
snapshots; one row of JSON for each quantity and group: mean |error|, root mean square of the error bar, and the shares
of errors within one and two of it.  Free energies and band energies in meV/atom, forces in eV/Å, DOS in 1/(eV atom).

    python benchmarks/error_bars.py [CASE ...]     cases as in CASES; all by default
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from readout import SETTINGS, SHARED, SMALL, Parts, described, snapshots, with_descriptors

from dftune.trainables.data.dataset import Dataset
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.error_bars import QUANTITIES, calibrated, judged
from dftune.trainables.ldos.readout.fit import evaluated, fit
from dftune.trainables.ldos.training_data import Scaling, TrainingData

LARGER: Parts = (("al8", "all"), ("al8_more", "all"))
# Case -> penalty, training, validation, groups of snapshots that are judged.
CASES: dict[str, tuple[float, Parts, Parts, dict[str, Parts]]] = {
    "al4": (
        0.1,
        SMALL,
        (("al4", "validation"),),
        {"al4": (("al4", "test"),), "al8": LARGER, "al16": (("al16", "all"),), "al32": (("al32", "all"),)},
    ),
    "with al8": (316.0, (*SMALL, *LARGER), (("al16", "all"),), {"al4": (("al4", "test"),), "al32": (("al32", "all"),)}),
    "demo": (0.1, (("demo", "train"),), (("demo", "validation"),), {"demo": (("demo", "test"),)}),
}
SEEDS = [7, 8, 9]


def dataset(name: str, place: Path) -> Dataset:
    if name != "demo":
        return described(name, place)
    shutil.copytree(Path(__file__).parents[1] / "examples" / "al4", place)  # descriptors are written beside the rest
    return with_descriptors(Dataset.open(str(place)))


def main() -> None:
    if not SHARED.is_dir():
        raise SystemExit("the raw data of aluminium are not here")
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or list(CASES)
    with tempfile.TemporaryDirectory() as temporary:
        parts = [part for case in chosen for some in (*CASES[case][1:3], *CASES[case][3].values()) for part in some]
        sets = {name: dataset(name, Path(temporary) / name) for name in sorted({name for name, _ in parts})}
        for case in chosen:
            penalty, train, validation, groups = CASES[case]
            some, info = snapshots(sets, train), sets[train[0][0]].info
            about = info.energy_grid, Scaling.fit(some), SETTINGS, info.species, info.dft
            data = TrainingData(some, snapshots(sets, validation), *about)
            started = time.process_time()
            config = SurrogateConfig.of({"training": "none", "penalty": penalty})
            trained = fit(config, data, seeds=SEEDS, posterior=True)
            known = trained.posterior
            assert known is not None
            size = sum(part.nbytes for part in known.tensors().values())
            print(json.dumps({"case": case, "fit_cpu_s": time.process_time() - started, "posterior_bytes": size}))
            for posterior in (known, None):
                started = time.process_time()

                def errors(parts: Parts, with_it=posterior, trained=trained, data=data):
                    given = {"data": data, "forces": True, "posterior": with_it}
                    return [evaluated(trained.network, d, **given).error(d) for d in snapshots(sets, parts)]

                bars = calibrated(errors(validation))
                for group, which in groups.items():
                    found = errors(which)
                    for name, bar in judged(bars, found).items():
                        each = [np.asarray(getattr(e, name)).mean(axis=0) for e in found]
                        row = {"case": case, "group": group, "snapshots": len(found), "quantity": QUANTITIES[name]}
                        row |= {"posterior": posterior is not None, "factor": bar.factor, "on": bar.snapshots}
                        row |= {"error": float(np.mean([np.abs(e).mean() for e in each]))}
                        row |= {"within_1": bar.within_1, "within_2": bar.within_2, "largest": bar.largest}
                        row |= {"cpu_s": time.process_time() - started}
                        print(json.dumps(row, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
