"""The figure of predicted and true DOS."""

import numpy as np
import pytest

from dftune.trainables.drawing import REFERENCE, SURROGATE
from dftune.trainables.ldos import dos_figure
from dftune.trainables.ldos.dos_figure import dos_comparison


def drawn(al4, monkeypatch, tmp_path, **how):
    """The figure of two snapshots, one of which is off by far."""
    from dftune.trainables.ldos.accuracy import snapshot_error

    energy = al4.info.energy_grid.energy
    snapshots, found, curves, errors = al4.snapshots[:2], [], [], []
    for snapshot, off in zip(snapshots, (0.01, 1.0), strict=True):
        true = 5.0 + np.sin(energy)
        predicted = np.array([true + off, true + 2 * off])
        curves.append((predicted, true))
        errors.append(
            snapshot_error(
                snapshot, al4.info.energy_grid, predicted_dos=predicted, true_dos=true, squared_error=np.ones(2)
            )
        )
    monkeypatch.setattr(dos_figure, "save", lambda figure, path: found.append(figure))
    dos_comparison(energy, curves, errors, tmp_path / "dos.png", **how)
    return found[0].axes, snapshots


def test_all_snapshots_have_one_scale(al4, monkeypatch, tmp_path):
    axes, _ = drawn(al4, monkeypatch, tmp_path)
    uppers, lowers = axes[::2], axes[1::2]
    assert uppers[0].get_ylim() == uppers[1].get_ylim()
    assert lowers[0].get_ylim() == lowers[1].get_ylim()
    assert lowers[0].get_ylim()[1] > 1.5 / 4, "that of the worst"
    assert [line.get_color() for line in uppers[0].lines[:2]] == [REFERENCE, SURROGATE]


def test_energies_are_relative_to_the_fermi_level_on_request(al4, monkeypatch, tmp_path):
    for relative in (False, True):
        axes, snapshots = drawn(al4, monkeypatch, tmp_path, relative=relative)
        for upper, lower, snapshot in zip(axes[::2], axes[1::2], snapshots, strict=True):
            level = upper.lines[-1].get_xdata()[0]
            assert level == (0.0 if relative else snapshot.fermi_level)
            shift = al4.info.energy_grid.energy[0] - upper.lines[0].get_xdata()[0]
            assert shift == pytest.approx(snapshot.fermi_level if relative else 0.0)
            assert ("above the Fermi level" in lower.get_xlabel()) == relative
