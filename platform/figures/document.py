"""One HTML file that needs nothing else: it opens without a network."""

import html

STYLE = """
body { font: 16px/1.45 system-ui, sans-serif; max-width: 1060px; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 0; }
p { margin: 0.3rem 0; color: #444; } img { max-width: 100%; }
dl { display: grid; grid-template-columns: max-content auto; gap: 0.1rem 1rem; } dt { color: #666; } dd { margin: 0; }
table { border-collapse: collapse; font-size: 0.86rem; display: block; overflow-x: auto; }
th, td { padding: 0.25rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
pre { font-size: 0.86rem; background: #f5f5f5; padding: 0.7rem; white-space: pre-wrap; }
.trials th { cursor: pointer; } .trials .best td { font-weight: 600; background: #fbe9e1; }
th[aria-sort=ascending]::after { content: " \\25b4"; } th[aria-sort=descending]::after { content: " \\25be"; }
th:first-child, td:first-child { text-align: left; }
"""


def document(title: str, body: str, *, script: str = "") -> str:
    """The whole file.

    Args:
        title: of the browser's window, and heading of the page, as plain text.
        body: HTML below the heading.
        script: JavaScript that the body needs.
    """
    name = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style>{f'<script>{script}</script>' if script else ''}</head>\n"
        f"<body><h1>{name}</h1>\n{body}\n</body></html>\n"
    )
