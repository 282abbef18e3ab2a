"""Free energies of a fleet of runs against the volume, a line a temperature."""

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import colormaps
from matplotlib.figure import Figure

from ...trainables.drawing import save
from ...trainables.errors import InputError

if TYPE_CHECKING:
    from .fleet import Fleet


def draw(fleet: "Fleet", path: Path) -> None:
    """Draw to a PNG file.  Raises InputError: no run has numbers, or the file cannot be written."""
    isotherms = fleet.isotherms()
    if not isotherms:
        raise InputError("no run of the fleet has numbers to draw")
    with_stress = any(point.helmholtz is not None for points in isotherms.values() for point in points)
    figure = Figure(figsize=(8.5 if with_stress else 5, 3.9), layout="constrained")
    panels = figure.subplots(1, 2 if with_stress else 1, squeeze=False)[0]
    shades = colormaps["plasma"]
    for n, (temperature, points) in enumerate(isotherms.items()):
        look = {"color": shades(0.85 * n / max(len(isotherms) - 1, 1)), "marker": "o", "markersize": 4, "capsize": 2}
        volumes = [point.volume for point in points]
        errors = [point.free_energy_error or 0.0 for point in points]
        panels[0].errorbar(volumes, [p.free_energy for p in points], errors, label=f"{temperature:g} K", **look)
        if with_stress:
            known = [point for point in points if point.helmholtz is not None]
            errors = [point.helmholtz_error or 0.0 for point in known]
            panels[1].errorbar([p.volume for p in known], [p.helmholtz for p in known], errors, **look)
    panels[0].set_ylabel("mean free energy of the electrons A [eV/atom]")
    if with_stress:
        panels[1].set_ylabel("F(V, T) less that at the first volume [eV/atom]")
    for panel in panels:
        panel.set_xlabel("volume [Å³/atom]")
        panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=6, frameon=False)
    save(figure, path)
