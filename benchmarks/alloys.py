"""Claim: 60 splits of all rows of Tables 3 and 4 of Lupo Pasini et al. (2020) take under 20 minutes on two cores.

    python benchmarks/alloys.py examples/alloys/CuAu --splits 60 --epochs 200
    python benchmarks/alloys.py examples/alloys/CuAu --splits 10 --curve curve.png

Prints a JSON row a model: mean and standard deviation over the splits, CPU seconds of a training, microseconds of a
prediction.  With --curve, errors against the number of orbits, as a figure.
"""

import argparse
import json
from pathlib import Path

from dftune.trainables.alloys.baselines import boosted_trees, composition, shell_model
from dftune.trainables.alloys.config import AlloyConfig
from dftune.trainables.alloys.data import AlloyData
from dftune.trainables.alloys.figures import learning_curve
from dftune.trainables.alloys.repeated import Repeated, papers_rows, repeated, repeated_baseline, splits_of
from dftune.trainables.alloys.splits import SplitSettings

CURVE = (10, 20, 40, 80)  # orbits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--splits", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--width", type=int, default=None, help="200 for CuAu and 300 for FePt are the paper's")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--only", nargs="*", help="rows of the table; by default all")
    parser.add_argument("--curve", type=Path, help="file of a learning curve, instead of the table")
    asked = parser.parse_args()
    data = AlloyData.open(asked.dataset)
    width = asked.width or (300 if data.all.moment.any() else 200)
    paper = AlloyConfig.of({"width": width, "epochs": asked.epochs, "images": asked.images})
    if asked.curve is not None:
        return curve(data, paper, asked.splits, asked.curve)
    splits = splits_of(data, asked.splits)
    everything = "".join(splits[0][0].varying)
    equivariant = AlloyConfig.of(
        {"tasks": everything, "architecture": "equivariant", "width": 32, "learning_rate": 1e-3, "epochs": asked.epochs}
    )
    clusters = AlloyConfig.of({"tasks": everything, "training": "none"})
    for config in [clusters, *papers_rows(paper, splits[0][0]), equivariant]:
        if asked.only is None or config.tasks in asked.only or config.architecture in asked.only:
            show(repeated(config, splits))
    for name, baseline in (("composition", composition), ("shell model", shell_model), ("XGBoost", boosted_trees)):
        show(repeated_baseline(name, baseline, splits))
    return None


def show(found: Repeated) -> None:
    print(json.dumps(found.row(), ensure_ascii=False), flush=True)


def curve(data: AlloyData, paper: AlloyConfig, n_splits: int, path: Path) -> None:
    configs = {
        "multi-task, paper": paper,
        "equivariant": AlloyConfig.of(
            {"architecture": "equivariant", "width": 32, "learning_rate": 1e-3, "epochs": 100}
        ),
        "clusters, no training": AlloyConfig.of({"training": "none"}),
    }
    found: dict[str, list[tuple[int, float, float]]] = {name: [] for name in (*configs, "shell model")}
    for rows in CURVE:
        splits = splits_of(data, n_splits, SplitSettings(rows=rows))
        results = {name: repeated(config, splits) for name, config in configs.items()}
        results["shell model"] = repeated_baseline("shell model", shell_model, splits)
        for name, one in results.items():
            found[name].append((rows, *one.values["energy_mae"]))
            print(json.dumps({"orbits": rows, "model": name, "energy_mae": one.values["energy_mae"]}), flush=True)
    learning_curve(found, "formation-energy error [mRy/atom]", path)


if __name__ == "__main__":
    main()
