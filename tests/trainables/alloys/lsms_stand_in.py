"""A stand-in for LSMS: a real process that writes what LSMS gave for a configuration, or goes wrong."""

import sys
from pathlib import Path

from dftune.trainables.alloys.data import AlloyData
from dftune.trainables.physics.units import BOHR, RYDBERG

# Behaviours by name; each is the body of a Python script.
BEHAVIOURS = {
    "well": "finish()",
    "crashes": "print('cannot open v_AuCu.0', file=sys.stderr); sys.exit(3)",
    "killed": "os.kill(os.getpid(), 9)",
    "hangs": "print('iteration 0', flush=True); time.sleep(60)",
    "writes nothing": "print('LSMS_3: Program started')",
    "writes no iterations": "finish()\nos.remove('k.out')",
    "is cut off": "finish()\nos.truncate('info_evec_out', 1000)",
    "converges never": "finish(residual=3e-4)",
    "diverges": "finish(residual=float('nan'))",
    "converges from near": """
near = "AuCu" not in text or open("v_AuCu.1").read().startswith("after")
finish(residual=1e-7 if near else 1e-3)""",
    "writes other atoms": """
finish()
found = open("info_evec_out").read()
open("info_evec_out", "w").write(found.replace("\\n29 ", "\\n79 "))""",
    "fails for gold": "sys.exit(1) if 'atom=\"Cu\"' not in text else finish()",
}
SCRIPT = """#!{python} -IS
import os, re, sys, time
text = open(sys.argv[-1]).read()
with open({calls!r}, "a") as calls:
    calls.write(os.getcwd() + "\\n")

def finish(residual=8.4e-7):
    names = re.findall(r'atom="(..)"', text)
    bits = "".join("01"[name == "Au"] for name in names)
    open("info_evec_out", "w").write(open({recorded!r} + "/" + hex(int(bits, 2))).read())
    open("k.out", "w").write("   0 -1.0 0.63 0.0 0.004\\n   1 -1.1 0.60 0.0 %.10f\\n" % residual)
    for site, name in enumerate(names):
        start = re.search(r"site\\[%d\\].*pot_in_idx=(\\d+)" % (site + 1), text)[1]
        began = open("v_" + "".join(sorted(set(names))) + "." + start).read()
        with open("w_" + "".join(sorted(set(names))) + "." + str(site), "w") as out:
            out.write("after " + name + " of " + bits + " from " + began.split(" from ")[0])

{body}
"""


def record(data: AlloyData, folder: Path, rows: range) -> None:
    """Write what LSMS gave for some configurations of CuAu, in the layout of its info_evec_out."""
    folder.mkdir()
    positions = data.info.lattice.positions / BOHR
    for row in rows:
        lines = [f"{data.all.energy[row] / RYDBERG:.12f} 229.7 0.6"]
        for site, kind in enumerate(data.all.species[row]):
            place = " ".join(f"{x:.12f}" for x in positions[site])
            charge, moment = data.all.charge[row, site], data.all.moment[row, site]
            lines.append(f"{data.info.numbers[kind]} {site} {place} {charge:.6f} {moment:.6f} 0 0 1 -1 0 0 0 0 0 0 1")
        bits = "".join(str(kind) for kind in data.all.species[row])
        (folder / hex(int(bits, 2))).write_text("\n".join(lines) + "\n")


def stand_in(folder: Path, behaviour: str, recorded: Path) -> Path:
    """A program that behaves so; it notes its calls in ``calls`` beside it."""
    path = folder / "lsms"
    body = BEHAVIOURS[behaviour]
    path.write_text(
        SCRIPT.format(python=sys.executable, calls=str(folder / "calls"), recorded=str(recorded), body=body)
    )
    path.chmod(0o755)
    return path
