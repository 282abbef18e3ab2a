"""The page at `/`: a structure in, its energies, DOS and density out, in a browser.  Nothing from the internet."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --edge: #808080;
  --blue: light-dark(#0072b2, #56b4e9); --red: light-dark(#b04a00, #ff9d5c) }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 1.5rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1.05rem; margin: 0 0 .4rem }
label { display: block; font-weight: 600 } .row { display: flex; flex-wrap: wrap; align-items: center;
  gap: .8rem 1.5rem; margin: .8rem 0 }
.row label { font-weight: 400 }
textarea { width: 100%; height: 9rem; font: .85em/1.4 ui-monospace, monospace; border: 2px dashed var(--edge);
  border-radius: .4rem; padding: .5rem; background: transparent; color: inherit }
::placeholder { color: inherit; opacity: .8 }
.over textarea { border-color: var(--blue); background: var(--soft) }
input, select, button { font: inherit; padding: .25rem .5rem } input[type=number] { width: 8.5rem }
#atom { width: 5rem }
button.main { font-weight: 600; padding: .35rem 1.2rem }
:focus-visible { outline: 3px solid var(--blue); outline-offset: 2px }
#said { min-height: 1.5rem } #said.wrong, #warnings { color: var(--red) }
.cards { columns: 2 22rem; column-gap: 1.2rem; margin-top: 1rem }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem; margin: 0 0 1.2rem; break-inside: avoid }
table { border-collapse: collapse; width: 100%; font-size: .9rem } th { text-align: left; font-weight: 600 }
td, th { border-bottom: 1px solid var(--line); padding: .2rem .5rem .2rem 0 } td.n { text-align: right;
  font-variant-numeric: tabular-nums }
.scroll { max-height: 24rem; overflow: auto } .scroll th { background: Canvas; position: sticky; top: 0 }
th.n { text-align: right } tr.chosen td { background: var(--soft); font-weight: 600 }
canvas, svg { width: 100%; display: block } figcaption, .small { font-size: .85rem; opacity: .8 }
[hidden] { display: none !important }
"""


@dataclass(frozen=True)
class Shown:
    """What the page knows of a model.

    example: a request to try.  density: whether it can be asked for.  asks: what can be asked besides.
    sites: as ``Surrogate.sites``.
    """

    example: dict[str, Any]
    density: bool
    asks: Sequence[str]
    sites: dict[str, Any] | None = None


def front(models: Mapping[str, Shown], title: str, *, with_token: bool) -> str:
    """The page.

    Args:
        models: by name, the first one chosen.
        title: what they are.
        with_token: whether the endpoint asks for one.
    """
    about = json.dumps({name: asdict(one) for name, one in models.items()}).replace("<", "\\u003c")
    formats = "extended XYZ, POSCAR, CIF, or JSON of ASE or pymatgen"
    formats += (
        "; or the elements on the sites of the lattice, as Cu Au Au or 011"
        if any(one.sites for one in models.values())
        else ""
    )
    options = "".join(f"<option>{escape(name)}</option>" for name in models)
    token = "" if with_token else " hidden"
    return f"""<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>
<title>dftune: {escape(next(iter(models)))}</title><style>{STYLE}</style>
<body>
<header><h1>dftune</h1><p>{escape(title)} <a href=docs>API</a> · <a href=openapi.json>openapi.json</a></p></header>
<main>
<form id=form>
<label for=text>Structure: paste it, or drop a file here</label>
<textarea id=text spellcheck=false aria-describedby=formats></textarea>
<p id=formats class=small>{formats}</p>
<div class=row>
<label>File <input type=file id=file></label>
<label>Model <select id=model>{options}</select></label>
<label data-asks=temperature>Electronic temperature [K]
<input type=number id=temperature min=0 placeholder='as trained'></label>
<label data-asks=forces><input type=checkbox id=forces> forces</label>
<label{token}>Token <input type=password id=token autocomplete=off></label>
</div>
<div class=row><button class=main>Predict</button> <button type=button id=example>Try an example</button></div>
</form>
<p id=said role=status aria-live=polite></p>
<section id=result hidden aria-label=Prediction>
<div id=warnings role=alert></div>
<div class=cards>
<div class=card><h2>Energies</h2><div id=energies></div><p id=errors class=small></p></div>
<figure class=card id=view><h2>Structure</h2>
<canvas id=atoms width=640 height=480 tabindex=0 role=application aria-roledescription=picture
 aria-label='the atoms in their cell' aria-describedby=turning></canvas>
<div class=row><label>Colour <select id=colour></select></label>
<label>Atom <input type=number id=atom min=1 aria-describedby=ofatom></label> <span id=ofatom role=status></span></div>
<figcaption><span id=turning>Drag, or use the arrow keys, to turn it; + and - to zoom.</span>
<span id=undrawn></span></figcaption></figure>
<div class=card id=atombox><h2 id=atomtitle>Atoms</h2>
<div id=peratom class=scroll tabindex=0 role=region aria-labelledby=atomtitle></div></div>
<figure class=card id=dosbox><h2>Density of states</h2><div id=dos></div></figure>
<figure class=card id=slicebox><h2>Density of electrons</h2>
<canvas id=slice width=480 height=480 role=img aria-label='density of electrons'></canvas>
<label class=small>Slice along the third cell vector <input type=range id=height min=0 value=0></label>
<figcaption id=scale></figcaption></figure>
</div>
<div class=row role=group aria-label=Download><button type=button data-save=json>prediction.json</button>
<button type=button data-save=atoms>atoms.csv</button>
<button type=button data-save=csv>dos.csv</button> <button type=button data-save=npy>density.npy</button></div>
</section>
</main>
<script type=application/json id=about>{about}</script>
<script src=front.js></script>
</body></html>
"""
