"""The app without a browser: what it answers, to whom, how much it takes, and what is left of it."""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import trimesh

import clips
from faces import GRACE, astronaut, encoded, scenery
from sameface import cli
from sameface.app import sessions, work
from sameface.app.server import PATIENCE, App, is_local
from sameface.app.sessions import Limits, Refused, Sessions
from sameface.app.work import Task, outcome
from sameface.app.workshop import DIED, Job, Workshop
from sameface.morphable import default
from sameface.reconstruction.viewer import NOT_TOLD

LIMITS = Limits(photos=3, megabytes=5, seconds=2.0)
PATH = re.escape(tempfile.gettempdir())


@contextmanager
def running(limits: Limits = LIMITS) -> Iterator[App]:
    app = App("127.0.0.1", 0, limits)
    thread = threading.Thread(target=app.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield app
    finally:
        app.shutdown()
        app.end()
        thread.join()


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    with running() as one:
        yield one


class Visitor:
    """A browser without a window."""

    def __init__(self, app: App, cookie: str = ""):
        self.app, self.cookie = app, cookie
        if not cookie:
            self.cookie = self.ask("GET", "/")[1]["Set-Cookie"].partition(";")[0]

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict, bytes]:
        line = HTTPConnection("127.0.0.1", self.app.port, timeout=60)
        try:
            headers = {"Cookie": self.cookie, **{key.replace("_", "-"): value for key, value in headers.items()}}
            line.request(method, path, body, headers)
            answer = line.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            line.close()

    def told(self, method: str, path: str, body: bytes | None = None, **headers: str) -> dict:
        return json.loads(self.ask(method, path, body, **headers)[2])

    def job(self, kind: str = "face") -> str:
        return self.told("POST", f"/jobs?kind={kind}")["job"]

    def put(self, job: str, name: str, content: bytes, side: str = "") -> int:
        return self.ask("PUT", f"/jobs/{job}?side={side}&name={quote(name)}", content)[0]

    def done(self, job: str) -> dict:
        """Begin, and wait for the end."""
        assert self.ask("POST", f"/jobs/{job}")[0] == HTTPStatus.ACCEPTED
        return until(lambda: (one := self.told("GET", f"/jobs/{job}"))["state"] in ("done", "failed") and one)


def until(happened: Callable, seconds: float = 120.0):
    end = time.monotonic() + seconds
    while not (result := happened()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    return result


@pytest.fixture
def visitor(app) -> Visitor:
    return Visitor(app)


@pytest.fixture(scope="module")
def photo() -> bytes:
    return encoded(astronaut())


@pytest.fixture(scope="module")
def made(app, photo) -> tuple[Visitor, str, dict]:
    """A visitor's finished face, from a photo and a file that is none."""
    visitor = Visitor(app)
    job = visitor.job()
    assert visitor.put(job, "eileen.png", photo) == visitor.put(job, "tea.png", encoded(scenery())) == 201
    return visitor, job, visitor.done(job)


# ── what it answers ────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_loads_nothing_and_may_load_nothing(app):
    status, headers, body = Visitor(app).ask("GET", "/", Cookie="")
    page = body.decode()
    assert status == HTTPStatus.OK
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert not re.search(r"@import|url\(|\{\{", page)
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', page))
    assert f"default-src 'none'; script-src 'nonce-{nonce}'" in headers["Content-Security-Policy"]
    assert re.fullmatch(r"sameface-\d+=[\w-]{43}; Path=/; HttpOnly; SameSite=Strict", headers["Set-Cookie"])
    assert headers["Cache-Control"] == "no-store"
    assert json.loads(re.search(r'id="limits">(.*?)<', page)[1]) == LIMITS._asdict()


def test_photos_become_a_face_to_download(made):
    visitor, job, told = made
    assert told["state"] == "done"
    answer = told["answer"]
    assert [one["photo"] for one in answer["left_out"]] == ["tea.png"]
    assert "depth is a guess" in answer["notes"][0]
    files = {one["name"]: visitor.ask("GET", f"/jobs/{job}/{one['name']}?download") for one in answer["files"]}
    for one in answer["files"]:
        status, headers, body = files[one["name"]]
        assert (status, len(body)) == (HTTPStatus.OK, one["bytes"])
        assert headers["Content-Disposition"].startswith("attachment")
    assert files["face.glb"][1]["Content-Type"] == "model/gltf-binary"
    scene = trimesh.load(io.BytesIO(files["face.glb"][2]), file_type="glb")
    assert sum(len(mesh.vertices) for mesh in scene.geometry.values()) > 6975
    with zipfile.ZipFile(io.BytesIO(files["neutral-obj.zip"][2])) as packed:
        assert sorted(packed.namelist()) == ["neutral.mtl", "neutral.obj", "neutral.png"]
    assert json.loads(files["result.json"][2])["views"][0]["photo"] == "eileen.png"
    assert not re.search(PATH, files["report.html"][2].decode())


def test_the_report_is_shown_as_of_another_origin(made):
    visitor, job, told = made
    status, headers, _ = visitor.ask("GET", f"/jobs/{job}/{told['answer']['page']}")
    assert status == HTTPStatus.OK
    assert "Content-Disposition" not in headers
    assert headers["Content-Security-Policy"].startswith("sandbox allow-scripts")
    assert "allow-same-origin" not in headers["Content-Security-Policy"]


def test_what_cannot_be_used_is_said_in_words(visitor):
    for name, content, words in (
        ("tea.png", encoded(scenery()), "no face in tea.png"),
        ("notes.jpg", b"Dear diary, today", "notes.jpg holds text"),
        ("nothing.jpg", b"", "nothing.jpg is empty"),
    ):
        job = visitor.job()
        visitor.put(job, name, content)
        told = visitor.done(job)
        assert told["state"] == "failed"
        assert words in told["message"]
        assert not re.search(PATH + "|Traceback", told["message"])


def test_whoever_waits_is_told_how_far_it_is(tmp_path, photo, monkeypatch):
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "eileen.png").write_bytes(photo)
    (tmp_path / "given" / "tea.png").write_bytes(encoded(scenery()))
    said = []
    state, answer = in_place("face", tmp_path, tell=lambda *at: said.append(at))
    assert said == [
        ("looking at the photos", 0, 2), ("looking at the photos", 1, 2), ("looking at the photos", 2, 2),
        ("fitting the face", 0, 0), ("writing the files", 0, 0),
    ]  # fmt: skip
    assert (state, answer["page"]) == ("done", "report.html")
    (tmp_path / "given" / "eileen.png").unlink()
    assert in_place("face", tmp_path)[1].startswith("no face in tea.png")
    monkeypatch.setattr("sameface.reconstruction.reconstruct.look", _no_memory)
    assert in_place("face", tmp_path) == ("failed", "this does not fit into memory; give fewer or smaller files")


def _no_memory(*_, **__):
    raise MemoryError


def test_two_people_are_compared_and_the_difference_can_be_turned(tmp_path, photo):
    for side, content in (("first", photo), ("second", GRACE.read_bytes())):
        (tmp_path / "given" / side).mkdir(parents=True)
        (tmp_path / "given" / side / "photo.jpg").write_bytes(content)
    state, answer = in_place("verify", tmp_path)
    assert state == "done"
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert f"{verdict['distance_mm']:.2f} mm apart" in answer["sentence"]
    assert "Identify nobody by it" in " ".join(answer["notes"])
    page = (tmp_path / "differences.html").read_text()
    assert "{{" not in page
    assert "What each photo said" not in page
    face = json.loads(re.search(r'id="face">(.*?)</script>', page)[1])
    assert face["names"] == ["second"]
    apart = np.frombuffer(base64.b64decode(face["disagreement"]), "<u2")
    apart = apart[apart < NOT_TOLD] / 1000  # µm, where anything is told: the distance is the RMS of what is shown
    assert len(apart) == default().regions["face"].sum()
    assert np.sqrt((apart**2).mean()) == pytest.approx(verdict["distance_mm"], abs=1e-3)
    deltas = np.frombuffer(base64.b64decode(face["deltas"]), "<i2").reshape(-1, 3) * face["morph_step"]
    assert np.linalg.norm(deltas, axis=1).max() >= apart.max() - 0.01
    assert "Identify nobody by it" in page


def test_a_video_becomes_a_face_that_moves(tmp_path):
    (tmp_path / "given").mkdir()
    clips.written(tmp_path / "given" / "clip.mp4", [np.roll(astronaut(), k, axis=1) for k in range(6)])
    said = []
    state, answer = in_place("video", tmp_path, tell=lambda *at: said.append(at))
    assert (state, answer["sentence"]) == ("done", "There is a face in 6 of 6 frames.")
    assert ("looking at the frames", 6, 6) in said
    assert all((tmp_path / name).stat().st_size for name, _ in answer["files"])
    face = json.loads(re.search(r'id="face">(.*?)</script>', (tmp_path / "report.html").read_text())[1])
    assert len(face["film"]["seconds"]) == 6
    state, message = in_place("video", tmp_path, longest=0.1)
    assert state == "failed"
    assert "clip.mp4 is 0 s long; here a video has at most 0.1 s" in message


def test_an_error_of_ours_is_told_in_the_terminal_and_no_traceback_on_the_page(tmp_path, capsys):
    (tmp_path / "given").mkdir()
    assert in_place("dance", tmp_path) == ("failed", work.BROKEN)
    assert "KeyError" in capsys.readouterr().err


def in_place(kind: str, folder: Path, *, longest: float = 60.0, tell=lambda *at: None):
    """What the worker says, in this process."""
    before = Path.cwd()
    try:
        return outcome(Task(kind, str(folder), longest), tell)
    finally:
        os.chdir(before)


# ── to whom ────────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_elses_files_can_be_seen_or_touched(made, app):
    owner, job, _ = made
    for other in (Visitor(app), Visitor(app, "sameface-1=guess"), Visitor(app, f"sameface-{app.port}=guess")):
        for method, path in (
            ("GET", f"/jobs/{job}"), ("GET", f"/jobs/{job}/face.glb"), ("POST", f"/jobs/{job}"),
            ("PUT", f"/jobs/{job}?name=a.jpg"),
        ):  # fmt: skip
            status, _, body = other.ask(method, path, b"x" if method == "PUT" else None)
            assert status in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN)
            assert b"load the page again" in body
        other.ask("DELETE", f"/jobs/{job}")
        other.ask("POST", f"/leave?jobs={job}")
    assert owner.ask("GET", f"/jobs/{job}/face.glb")[0] == HTTPStatus.OK


def test_only_files_of_the_answer_are_given_out(made):
    visitor, job, _ = made
    for name in ("given", "given%2Feileen.png", "..%2F..%2Fetc%2Fpasswd", "%2e%2e", "neutral.obj", ""):
        assert visitor.ask("GET", f"/jobs/{job}/{name}")[0] == HTTPStatus.NOT_FOUND
    for path in ("/etc/passwd", "//[", "/jobs", "/jobs/a/b/c?download&%"):
        assert visitor.ask("GET", path)[0] == HTTPStatus.NOT_FOUND
    for method in ("POST", "PUT", "DELETE"):
        assert visitor.ask(method, "/other")[0] == HTTPStatus.NOT_FOUND


def test_names_of_uploaded_files_lead_nowhere(visitor, app, photo):
    job = visitor.job()
    names = ("../../../evil.png", "a/b\\c.PNG", ".htaccess")
    assert [visitor.put(job, name, b"x") for name in names] == [201] * 3
    given = app.sessions.root / job / "given"
    assert {path.name for path in given.iterdir()} == {"evil.png", "c.png", "htaccess"}
    assert not list(app.sessions.root.glob("**/*.part"))


def test_photos_of_one_name_are_two(visitor, app):
    job = visitor.job("verify")
    assert [visitor.put(job, "a.jpg", content, "first") for content in (b"1", b"2")] == [201] * 2
    assert {path.name for path in (app.sessions.root / job / "given" / "first").iterdir()} == {"a.jpg", "a-2.jpg"}


def test_other_sites_can_neither_point_their_name_here_nor_ask(visitor, app):
    for host in ("evil.example", f"evil.example:{app.port}", "127.0.0.1:1"):
        assert visitor.ask("GET", "/", Host=host)[0] == HTTPStatus.MISDIRECTED_REQUEST
    assert visitor.ask("GET", "/", Host=f"localhost:{app.port}")[0] == HTTPStatus.OK
    for origin in ("http://evil.example", "null"):
        assert visitor.ask("POST", "/jobs?kind=face", Origin=origin)[0] == HTTPStatus.FORBIDDEN
    assert visitor.ask("POST", "/jobs?kind=face", Origin=f"http://127.0.0.1:{app.port}")[0] == HTTPStatus.CREATED


def test_hosts_that_are_this_machine_only():
    assert [is_local(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "192.168.0.7", "pc")] == [
        True, True, True, False, False, False, False,
    ]  # fmt: skip


# ── how much ───────────────────────────────────────────────────────────────────────────────────────────────


def test_too_many_and_too_large_files_are_refused(visitor):
    job = visitor.job()
    assert [visitor.put(job, f"{k}.jpg", b"x") for k in range(4)] == [201] * 3 + [413]
    job = visitor.job()
    assert visitor.put(job, "a.jpg", bytes(3_000_000)) == 201
    large = visitor.ask("PUT", f"/jobs/{job}?name=b.jpg", None, Content_Length="3000000")
    assert large[0] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert large[1]["Connection"] == "close"
    assert json.loads(large[2])["message"] == "all files together may have 5 MB here; give fewer or smaller ones"
    job = visitor.job("video")
    assert [visitor.put(job, "a.mp4", b"x"), visitor.put(job, "b.mp4", b"x")] == [201, 413]


def test_a_job_takes_what_it_asks_for_and_begins_once(visitor, photo):
    job = visitor.job("verify")
    assert visitor.put(job, "a.jpg", photo, "third") == HTTPStatus.CONFLICT
    assert visitor.put(job, "a.jpg", photo, "first") == HTTPStatus.CREATED
    assert visitor.told("POST", f"/jobs/{job}") == {"message": "a file is missing; choose one first"}
    assert visitor.ask("POST", "/jobs?kind=dance")[0] == HTTPStatus.BAD_REQUEST
    for headers in ({"Content_Length": "many"}, {"Content_Length": "²"}, {"Transfer_Encoding": "chunked"}):
        status, told, _ = visitor.ask("PUT", f"/jobs/{job}?side=first", None, **headers)
        assert status == HTTPStatus.LENGTH_REQUIRED
        assert ("Connection" in told) == ("Transfer_Encoding" in headers)
    job = visitor.job()
    visitor.put(job, "a.jpg", b"no photo")
    assert visitor.done(job)["state"] == "failed"
    assert visitor.ask("POST", f"/jobs/{job}")[0] == HTTPStatus.CONFLICT
    assert visitor.put(job, "b.jpg", photo) == HTTPStatus.CONFLICT


def test_a_visitor_has_so_many_jobs_and_the_app_so_many_visitors(app, visitor, monkeypatch):
    for _ in range(sessions.MOST_JOBS):
        visitor.job()
    assert visitor.ask("POST", "/jobs?kind=face")[0] == HTTPStatus.TOO_MANY_REQUESTS
    monkeypatch.setattr(sessions, "MOST_SESSIONS", len(app.sessions.sessions))
    assert visitor.ask("GET", "/", Cookie="a=b")[0] == HTTPStatus.SERVICE_UNAVAILABLE


def test_an_upload_that_breaks_off_leaves_no_file(app):
    some = Sessions(LIMITS, app.workshop)
    session = some.known(some.begin())
    assert session is not None
    job = some.new_job(session, "face")
    with pytest.raises(Refused, match=r"a\.jpg broke off on its way"):
        some.take(session, job, "", "a.jpg", 100, io.BytesIO(b"short"))
    assert not list((some.root / job / "given").iterdir())
    some.close()


def test_a_job_that_takes_too_long_is_stopped_and_the_next_is_done(tmp_path, photo):
    shop = Workshop({"face": 0.0}, 60.0)
    try:
        job = asked(shop, tmp_path / "a", b"text")
        assert job.state == "failed"
        assert "took longer than 0 minutes" in job.message
        shop.patience = {"face": 600.0}
        assert "holds text" in asked(shop, tmp_path / "b", b"text").message
        shop.process.kill()
        shop.process.join()
        assert "holds text" in asked(shop, tmp_path / "c", b"text").message  # one that ended between jobs is replaced
        dying = asked(shop, tmp_path / "d", photo, wait=lambda job: job.at[0])
        shop.process.kill()
        until(lambda: dying.state == "failed")
        assert dying.message == DIED
        left = asked(shop, tmp_path / "e", photo, wait=lambda job: job.at[0])
        queued = asked(shop, tmp_path / "f", photo, wait=lambda job: True)
        assert shop.before(queued) == 1
        shop.leave(queued)
        shop.leave(left)
        until(lambda: not left.folder.exists() and not queued.folder.exists())
    finally:
        shop.close()


def asked(shop: Workshop, folder: Path, photo: bytes, wait=lambda job: job.state in ("done", "failed")) -> Job:
    job = Job("face", folder)
    job.given.mkdir(parents=True)
    (job.given / "photo.png").write_bytes(photo)
    shop.ask(job)
    until(lambda: wait(job))
    return job


# ── what is left of it ─────────────────────────────────────────────────────────────────────────────────────


def test_files_go_when_the_page_is_closed_or_not_heard_of(app):
    visitor = Visitor(app)
    jobs = [visitor.job() for _ in range(3)]
    folders = [app.sessions.root / job for job in jobs]
    assert all(folder.is_dir() for folder in folders)
    visitor.ask("DELETE", f"/jobs/{jobs[0]}")
    visitor.ask("POST", f"/leave?jobs={jobs[1]},{jobs[0]},nothing")
    assert [folder.exists() for folder in folders] == [False, False, True]
    app.sessions.forget(3600.0)
    assert folders[2].exists()
    session = app.sessions.known(visitor.cookie.partition("=")[2])
    session.heard -= 7200
    app.sessions.forget(3600.0)
    assert not folders[2].exists()
    assert visitor.ask("POST", "/jobs?kind=face")[0] == HTTPStatus.FORBIDDEN


def test_all_files_go_when_the_app_ends_and_those_of_a_killed_one_when_the_next_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left, running_one = tmp_path / f"sameface-app-{ended.stdout.strip()}-x", tmp_path / f"sameface-app-{os.getpid()}-x"
    left.mkdir()
    running_one.mkdir()
    with running() as app:
        assert not left.exists()
        assert running_one.exists()
        assert app.sessions.root.stat().st_mode & 0o077 == 0
        Visitor(app).job()
        assert list(app.sessions.root.iterdir())
    assert list(tmp_path.iterdir()) == [running_one]


def test_the_command_says_where_it_is_and_ends_when_told(tmp_path):
    command = [sys.executable, "-m", "sameface", "app", "--no-open", "--port", "0"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(re.fullmatch(r"sameface is at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)\n", line)[1])
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/")
        assert connection.getresponse().status == HTTPStatus.OK
        connection.close()
        assert list(tmp_path.iterdir())
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
    assert (rest, process.returncode) == ("the app has ended; its files are removed\n", 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--port", "99999"], 2, "a port is a number from 0"),
        (["--photos", "0"], 2, "give numbers above 0"),
        (["--host", "192.0.2.1", "--port", "8620"], 1, "no app can listen at 192.0.2.1, port 8620"),
    ],
)
def test_wrong_flags_are_answered_with_what_to_do(arguments, code, words, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["app", "--no-open", *arguments])
    assert left.value.code == code
    assert words in capsys.readouterr().err


def test_other_hosts_are_warned_of_and_the_browser_is_opened(capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(App, "serve_forever", lambda self: None)
    with pytest.raises(SystemExit) as left:
        cli.main(["app", "--host", "0.0.0.0"])
    assert left.value.code == 0
    said = capsys.readouterr()
    assert "warning: with --host 0.0.0.0, whoever reaches this machine can use the app" in said.err
    assert opened == re.findall(r"http://127\.0\.0\.1:\d+/", said.out)


def test_other_verbs_do_not_pay_for_it():
    names = ("http.server", "sameface.app", "webbrowser")
    code = f"import sys, sameface.cli; print([name for name in {names} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    assert set(PATIENCE) == set(work.KINDS)
