"""The web application of the live pages.  It only reads."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from plotly.offline import get_plotlyjs

from ...trainables.errors import InputError
from ..figures.document import document
from ..figures.table import SORT
from ..serve.settings import is_token
from ..study.listing import listed
from ..study.study import Study
from .pages import STYLE, list_page, rows, study_page
from .script import LIST, STUDY
from .standing import Standings

# Plotly writes styles into its figures, and saves them from a blob; nothing comes from another place.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; "
    "img-src data: blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
SCRIPTS = {"study.js": SORT + STUDY, "list.js": LIST}


def web_app(studies: Path, ledger: str | None, *, token_sha256: str | None, hosts: frozenset[str]) -> FastAPI:
    """The pages of the studies of a folder or database.

    Args:
        studies: the folder.
        ledger: URL of a database that holds their ledgers instead.
        token_sha256: of the token that a browser must bring as the password of HTTP's basic access, and a program as a
            bearer token; None: whoever reaches the port may read.
        hosts: names by which the pages may be asked for; without a token only these, so that no other page in the
            reader's browser can have its own name point here and read along.
    """
    app = FastAPI(title="dftune", docs_url=None, redoc_url=None, openapi_url=None)
    standings = Standings(studies, ledger)

    @app.middleware("http")
    async def guard(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        if token_sha256 is not None and not _has_token(request.headers.get("authorization", ""), token_sha256):
            refused = {"WWW-Authenticate": 'Basic realm="dftune: any name, the token as password"'}
            answer: Response = JSONResponse({"detail": "this page asks for its token"}, 401, refused)
        elif token_sha256 is None and _name(request) not in hosts:
            answer = JSONResponse({"detail": "this page is read by the address that `dftune` printed"}, 421)
        else:
            answer = await proceed(request)
        answer.headers.update(HEADERS)
        return answer

    @app.exception_handler(InputError)
    def refuse(_: Request, error: InputError) -> Response:
        return JSONResponse({"detail": str(error)}, 404)

    @app.get("/")
    def index() -> Response:
        return HTMLResponse(_page("Studies", list_page(), ["list.js"]))

    @app.get("/list")
    def the_list() -> Response:
        return HTMLResponse(rows(listed(studies, ledger)))

    @app.get("/studies/{name}")
    def study(name: str) -> Response:
        Study.open(name, studies, ledger)
        return HTMLResponse(_page(f"Study {name}", study_page(name), ["plotly.js", "study.js"]))

    @app.get("/studies/{name}/data")
    def data(name: str, request: Request) -> Response:
        standing = standings.of(name)
        tag = {"ETag": f'"{standing.stamp}"', "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag["ETag"]:
            return Response(status_code=304, headers=tag)
        return Response(standing.body, media_type="application/json", headers=tag)

    @app.get("/scripts/{name}")
    def script(name: str) -> Response:
        text = get_plotlyjs() if name == "plotly.js" else SCRIPTS.get(name)
        if text is None:
            raise HTTPException(404, "there is no such script")
        return PlainTextResponse(text, media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})

    return app


def _page(title: str, body: str, scripts: list[str]) -> str:
    tags = "".join(f'<script defer src="/scripts/{name}"></script>' for name in scripts)
    return document(title, f"<style>{STYLE}</style>{body}{tags}")


def _name(request: Request) -> str | None:
    """The name by which the page was asked for."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:
        return None


def _has_token(authorization: str, token_sha256: str) -> bool:
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            rest = base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return is_token(rest, token_sha256)
