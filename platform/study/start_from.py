"""Configs that were good in other studies, to be tried first in a new one."""

from contextlib import closing
from itertools import chain, zip_longest
from pathlib import Path

from ...searchers.space import Config, contains
from ...trainables.errors import did_you_mean
from ..ledger.ledger import Ledger
from ..ledger.places import Database, Place
from ..spec import SpecError, StudySpec
from . import folder as folders

SHARE = 5  # one trial in so many may begin where others ended: the method needs the rest


def with_first(spec: StudySpec, folder: Path, place: Place) -> StudySpec:
    """The specification with the best configs of the studies that it starts from, in turn the best of each.

    Hyperparameters that are varied here are taken over, where they lie in [space]; all others are as [config] says.

    Args:
        spec: of a new study.
        folder: of the new study, beside which those of the others are.
        place: of its ledger; in a database it is that of the others, too.

    Raises:
        SpecError: a study that there is not, or of another kind, or none of them has a config for this space.
        LedgerError: a ledger cannot be read.
    """
    found = [_best_of(spec, name, folder.parent, place) for name in spec.start_from]
    configs: list[Config] = list(spec.first)
    for config in chain.from_iterable(zip_longest(*found)):
        if config is not None and config not in configs:
            configs.append(config)
    room = len(spec.first) + max(1, spec.trials // SHARE)
    if len(configs) == len(spec.first):
        raise SpecError(
            f"start_from: no finished trial of {', '.join(spec.start_from)} lies in [space] of '{spec.name}'; "
            "widen [space] or name other studies"
        )
    return spec.model_copy(update={"first": tuple(configs[:room])})


def _best_of(spec: StudySpec, name: str, studies: Path, place: Place) -> list[Config]:
    """Configs of a study's finished trials as far as they lie in the space, the best first."""
    there = place.names() if isinstance(place, Database) else folders.names_in(studies)
    names = [other for other in there if other != spec.name]
    if name not in names:
        raise SpecError(f"start_from: there is no study '{name}' beside '{spec.name}'; {did_you_mean(name, names)}")
    home = place if isinstance(place, Database) else folders.place_of(studies / name, None)
    with closing(Ledger.open(home, name)) as opened:
        other, trials = opened.spec, opened.trials()
    if other.kind != spec.kind:
        raise SpecError(
            f"start_from: study '{name}' is of kind '{other.kind}', whose configs say nothing of '{spec.kind}'"
        )
    values = [(t.reached(other.metric), t) for t in trials if t.state == "finished"]
    found = []
    for _, trial in sorted(((v, t) for v, t in values if v is not None), key=lambda pair: pair[0]):
        full = other.full(trial.config).model_dump()
        config = {n: full[n] for n in spec.space if full.get(n) is not None}
        if contains(spec.space, config):
            found.append(config)
    return found
