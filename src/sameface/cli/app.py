"""`sameface app`: the toolkit in a browser."""

import sys

from sameface.cli.exits import DONE
from sameface.core.errors import BadOutput, in_one_line

__all__ = ["app"]

FIRST_PORT, PORTS = 8620, 20
"""which ports are tried, where none is named"""


def app(
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    open: bool = True,
    photos: int = 40,
    megabytes: int = 300,
    seconds: float = 60.0,
) -> int:
    """Faces in the browser: photos, two people or a video -> a face to turn, files to download (docs/app.md).

    Everything stays on this machine: it fetches nothing, sends nothing, and keeps nothing. Ctrl-C ends it.

    Args:
        host: Where it listens; other than 127.0.0.1, whoever reaches this machine can use it, and nothing is encrypted.
        port: Which port it listens at; default: the first free one from 8620.
        open: Open it in the browser.
        photos: Most photos of one person.
        megabytes: Most that the files of one face may have together, MB.
        seconds: Longest video, s.
    """
    from sameface.app.server import App, is_local
    from sameface.app.sessions import Limits

    if min(photos, megabytes, seconds) <= 0:
        raise ValueError("--photos, --megabytes and --seconds are limits; give numbers above 0")
    if port is not None and not 0 <= port < 65536:
        raise ValueError(f"--port is {port}; a port is a number from 0 (any free one) to 65535")
    limits, problem = Limits(photos, megabytes, seconds), ""
    for one in range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]:
        try:
            served = App(host, one, limits)
            break
        except OSError as error:
            problem = in_one_line(error)
    else:
        raise BadOutput(f"no app can listen at {host}, port {port or FIRST_PORT} ({problem}): choose another --port")
    try:
        print(f"sameface is at {served.address} (Ctrl-C ends it)", flush=True)
        if not is_local(host):
            warning = "whoever reaches this machine can use the app, and photos travel unencrypted: trust that network"
            print(f"warning: with --host {host}, {warning}", file=sys.stderr)
        if open:
            import webbrowser

            webbrowser.open(served.address)
        served.serve_forever()
    except KeyboardInterrupt:
        pass  # the way to end it
    finally:
        served.end()
    print("the app has ended; its files are removed")
    return DONE
