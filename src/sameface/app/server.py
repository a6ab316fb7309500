"""The app's server: one page, and the jobs that it asks for. Nothing is fetched from anywhere, and nothing is sent.

| request | answer |
|---|---|
| GET / | the page (`assets/app.html`), and a cookie that names the session |
| POST /jobs?kind=face | a new job: its number |
| PUT /jobs/N?side=first&name=a.jpg | one file into it |
| POST /jobs/N | begin |
| GET /jobs/N | how far it is, and the answer |
| GET /jobs/N/face.glb | a file of the answer; pages are shown, all others downloaded |
| DELETE /jobs/N, POST /leave?jobs=N,M | it is not wanted any more |

A request must name this machine as its host, or the name it was told to serve; so no other site's name can be pointed
at it. Pages of answers are shown as of an origin of their own: whatever came with a photo, it reaches nothing here.
"""

import json
import mimetypes
import secrets
import shutil
import socket
import sys
import threading
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from sameface import __version__
from sameface.app.sessions import Limits, Refused, Session, Sessions
from sameface.app.workshop import Workshop
from sameface.core.errors import SameFaceError

__all__ = ["App", "is_local"]

SILENCE = 60.0
"""s after which a connection that says nothing is closed"""
SWEEP = 60.0
"""s between two looks for sessions that are over"""
PATIENCE = {"face": 600.0, "verify": 600.0, "video": 1800.0}
"""s that a job may take"""
PAGE_POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; img-src 'self' blob: data:; media-src blob:; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ANSWER_POLICY = "sandbox allow-scripts allow-downloads; frame-ancestors 'self'"
KINDS = {".glb": "model/gltf-binary", ".html": "text/html; charset=utf-8", ".csv": "text/csv; charset=utf-8"}


def is_local(host: str) -> bool:
    """Whether a server of this host is reached from this machine only.

    >>> is_local("127.0.0.1"), is_local("localhost"), is_local("0.0.0.0")
    (True, True, False)
    """
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@cache
def _page() -> str:
    return (Path(__file__).parent.parent / "assets" / "app.html").read_text(encoding="utf-8")


class App(ThreadingHTTPServer):
    """The server and all that it holds; `address` is where a browser finds it."""

    daemon_threads = True
    allow_reuse_address = sys.platform != "win32"

    def __init__(self, host: str, port: int, limits: Limits):
        self.host, self.limits = host, limits
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)
        self.workshop = Workshop(PATIENCE, limits.seconds)
        self.sessions = Sessions(limits, self.workshop)
        self.over = threading.Event()
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    @property
    def port(self) -> int:
        """The one that it listens at."""
        return self.server_address[1]

    @property
    def address(self) -> str:
        """For a browser on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    @property
    def cookie(self) -> str:
        """Its name; browsers keep those of all ports of a host together."""
        return f"sameface-{self.port}"

    def server_bind(self) -> None:
        """As everywhere, but that no name server is asked for this machine's name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(self.allow_reuse_address))
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.host, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error; anything else is told in the terminal."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def end(self) -> None:
        """End the work and remove all files."""
        self.over.set()
        self.server_close()
        self.workshop.close()
        self.sessions.close()

    def _sweep(self) -> None:
        while not self.over.wait(SWEEP):
            self.sessions.forget()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: App
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sameface", ""
    timeout = SILENCE

    def do_GET(self) -> None:
        """Pages, states and files."""
        self._answered(self._get)

    def do_POST(self) -> None:
        """New jobs, begun jobs, jobs that are left."""
        self._answered(self._post)

    def do_PUT(self) -> None:
        """One file."""
        self._answered(self._put)

    def do_DELETE(self) -> None:
        """A job that is not wanted any more."""
        self._answered(self._delete)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is noted of anybody."""

    # ── requests ──

    def _answered(self, how: Callable[[list[str], dict[str, str]], None]) -> None:
        length = self.headers.get("Content-Length", "")
        self.length = int(length) if length.isascii() and length.isdigit() else None
        self.unread = bool(self.length or "Transfer-Encoding" in self.headers)
        try:
            self._check_where_from()
            path, _, query = self.path.partition("?")
            asked = {key: values[0] for key, values in parse_qs(query, keep_blank_values=True).items()}
            how([unquote(part) for part in path.split("/")[1:]], asked)
        except Refused as refused:
            self._say(refused.status, {"message": str(refused)})
        except SameFaceError as error:  # the disk is full
            self._say(HTTPStatus.INSUFFICIENT_STORAGE, {"message": str(error)})

    def _check_where_from(self) -> None:
        """Only the own page asks, and by a name that is this app's."""
        host = self.headers.get("Host", "")
        names = ("127.0.0.1", "localhost", "[::1]", self.server.host)
        if is_local(self.server.host) and host.lower() not in {f"{name}:{self.server.port}" for name in names}:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, f"this app is found at {self.server.address} only")
        origin = self.headers.get("Origin")
        if self.command != "GET" and origin not in (None, f"http://{host}", f"https://{host}"):
            raise Refused(HTTPStatus.FORBIDDEN, "this comes from another site")

    def _get(self, parts: list[str], asked: dict[str, str]) -> None:
        match parts:
            case [""]:
                self._send_page()
            case ["jobs", number]:
                self._say(HTTPStatus.OK, self.server.sessions.told(self._session(), number))
            case ["jobs", number, name]:
                self._send_file(self.server.sessions.file(self._session(), number, name), "download" in asked)
            case _:
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _post(self, parts: list[str], asked: dict[str, str]) -> None:
        sessions = self.server.sessions
        match parts:
            case ["jobs"]:
                self._say(HTTPStatus.CREATED, {"job": sessions.new_job(self._session(), asked.get("kind", ""))})
            case ["jobs", number]:
                sessions.start(self._session(), number)
                self._say(HTTPStatus.ACCEPTED, {})
            case ["leave"]:
                sessions.leave(self._session(), asked.get("jobs", "").split(","))
                self._say(HTTPStatus.OK, {})
            case _:
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _put(self, parts: list[str], asked: dict[str, str]) -> None:
        match parts:
            case ["jobs", number]:
                if self.length is None:
                    raise Refused(HTTPStatus.LENGTH_REQUIRED, "how long is the file?")
                side, name, session = asked.get("side", ""), asked.get("name", "photo"), self._session()
                self.server.sessions.take(session, number, side, name, self.length, self.rfile)
                self.unread = False
                self._say(HTTPStatus.CREATED, {})
            case _:
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _delete(self, parts: list[str], asked: dict[str, str]) -> None:
        match parts:
            case ["jobs", number]:
                self.server.sessions.leave(self._session(), [number])
                self._say(HTTPStatus.OK, {})
            case _:
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _session(self) -> Session:
        session = self.server.sessions.known(self._cookie())
        if session is None:
            raise Refused(HTTPStatus.FORBIDDEN, "the app does not know you any more; load the page again")
        return session

    def _cookie(self) -> str | None:
        try:
            found = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            return None
        return found.value if found else None

    # ── answers ──

    def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        headers = {"Content-Security-Policy": PAGE_POLICY.format(nonce), "X-Frame-Options": "DENY"}
        if self.server.sessions.known(self._cookie()) is None:
            name = self.server.sessions.begin()
            headers["Set-Cookie"] = f"{self.server.cookie}={name}; Path=/; HttpOnly; SameSite=Strict"
        limits = json.dumps(self.server.limits._asdict())
        page = _page().replace("{{nonce}}", nonce).replace("{{limits}}", limits).replace("{{version}}", __version__)
        self._head(HTTPStatus.OK, "text/html; charset=utf-8", len(body := page.encode()), headers)
        self.wfile.write(body)

    def _send_file(self, path: Path, to_keep: bool) -> None:
        kind = KINDS.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        headers = {"Content-Security-Policy": ANSWER_POLICY}
        if path.suffix != ".html" or to_keep:
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(path.name)}"
        try:
            file = path.open("rb")
        except OSError:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such file any more") from None
        with file:
            self._head(HTTPStatus.OK, kind, path.stat().st_size, headers)
            shutil.copyfileobj(file, self.wfile)

    def _say(self, status: HTTPStatus, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self._head(status, "application/json", len(body), {})
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str, length: int, headers: dict[str, str]) -> None:
        """Status and headers; a connection with a body that nobody read is of no more use."""
        self.send_response(status)
        always = {
            "Content-Type": kind, "Content-Length": str(length), "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin", "Permissions-Policy": "camera=(self), microphone=()",
        }  # fmt: skip
        for name, value in (always | headers).items():
            self.send_header(name, value)
        if self.unread:
            self.send_header("Connection", "close")
        self.end_headers()
