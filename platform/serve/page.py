"""The endpoint's description as a page for people: no script, and nothing from the internet."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from ...trainables.json_body import JSON

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "X-Frame-Options": "DENY"}
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem; font-size: 1.15rem } h2 code { font-size: inherit }
h3 { font-size: .95rem; margin: 1.2rem 0 .3rem }
code, pre { font: .88em/1.45 ui-monospace, monospace } pre { background: var(--soft); padding: .8rem; overflow-x: auto }
table { border-collapse: collapse; width: 100% } td:first-child { width: 14.5rem; overflow-wrap: anywhere }
td { vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line) }
b { display: inline-block; min-width: 3.2rem; color: light-dark(#0072b2, #56b4e9) }
"""


def curl(url: str, body: Mapping[str, Any], *, with_token: bool) -> str:
    """A request for a prediction, to paste into a shell."""
    token = """ -H "Authorization: Bearer $DFTUNE_TOKEN\"""" if with_token else ""
    return f"curl {url}/v1/predict{token} -H 'Content-Type: application/json' \\\n  -d '{json.dumps(body)}'"


def page(document: Mapping[str, Any], example: str) -> str:
    """The document for people, as one HTML page.

    Args:
        document: of OpenAPI.
        example: a request to paste into a shell.
    """
    info, schemas = document["info"], document["components"]["schemas"]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('description', ''))}</p>",
        f"<p>For programs: <a href='openapi.json'>openapi.json</a>. Try:</p><pre>{escape(example)}</pre>",
    ]
    operations = [(method, path, about) for path, one in document["paths"].items() for method, about in one.items()]
    for method, path, about in sorted(operations, key=lambda one: one[0] != "post"):  # the prediction first
        parts.append(f"<h2><b>{method.upper()}</b> <code>{escape(path)}</code></h2>")
        parts.append(f"<p>{_prose(about.get('description', ''))}</p>")
        if "security" in about:
            parts.append("<p>Needs the header <code>Authorization: Bearer TOKEN</code>.</p>")
        for kind, body in about.get("requestBody", {}).get("content", {}).items():
            for schema in body["schema"].get("anyOf", [body["schema"]]):
                parts.append(f"<h3>Body: <code>{escape(kind)}</code></h3>" + _fields(schema, schemas))
        asked = about.get("parameters", [])
        if rows := [(p["name"], _type(p["schema"], schemas), p.get("description", "")) for p in asked]:
            parts.append("<h3>Path and query</h3>" + _table(rows))
        answers = about["responses"]
        good = answers["200"].get("content", {}).get(JSON, {}).get("schema", {})
        parts += ["<h3>Answer</h3>" + _fields(schema, schemas) for schema in good.get("anyOf", [good])]
        parts.append("<h3>Errors</h3>" + _table((c, a["description"]) for c, a in answers.items() if c != "200"))
    text = "\n".join(parts)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style><body>{text}</body></html>"
    )


def _prose(text: str) -> str:
    """Text with `code` in it."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    """Rows of cells; the first cell of each is code."""
    lines = (
        "".join(f"<td>{f'<code>{escape(c)}</code>' if n == 0 else _prose(c)}" for n, c in enumerate(r)) for r in rows
    )
    return "<table>" + "".join(f"<tr>{line}" for line in lines) + "</table>"


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """The fields of an object, those of the objects in it beneath it."""
    rows = list(_rows(schema, schemas))
    return _table(rows) if rows else f"<p>{escape(schema.get('description', '') or _type(schema, schemas))}</p>"


def _rows(schema: Mapping[str, Any], schemas: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str, str]]:
    found = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    for name, one in found.get("properties", {}).items():
        needed = ", required" if name in found.get("required", ()) and "default" not in one else ""
        yield above + name, _type(one, schemas) + (needed if above == "" else ""), one.get("description", "")
        inner = one.get("items", one)
        if "$ref" in inner and len(above) < 20:
            yield from _rows(inner, schemas, f"{above}{name}.")


def _type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return "object"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(s, schemas) for s in schema["anyOf"] if s.get("type") != "null"))
    if "enum" in schema:
        return ", ".join(map(repr, schema["enum"]))
    if schema.get("type") == "array":
        inner = schema.get("items", {})
        size = schema.get("maxItems") if schema.get("maxItems") == schema.get("minItems") else None
        return f"{size or 'list'} of {_type(inner, schemas)}" if size is None else f"{size} x {_type(inner, schemas)}"
    return str(schema.get("type", "any"))
