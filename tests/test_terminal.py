"""What is printed, and to streams that are closed, broken or full."""

import io
import os
import subprocess
import sys

import pytest

from sameface import __version__, cli
from sameface.cli.terminal import harmless, streams


class Broken(io.StringIO):
    """A stream that takes a few characters."""

    def __init__(self, room: int, error: Exception):
        super().__init__()
        self.room, self.error = room, error

    def write(self, text: str) -> int:
        if self.tell() + len(text) > self.room:
            raise self.error
        return super().write(text)


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("error", "failed"),
    [(BrokenPipeError(32, "Broken pipe"), None), (ValueError("closed"), None), (FULL, FULL.strerror)],
)
def test_the_work_goes_on_when_nothing_can_be_printed(monkeypatch, error, failed):
    monkeypatch.setattr(sys, "stdout", before := Broken(5, error))
    done = []
    with streams() as out:
        for k in range(3):
            print(k)
            done.append(k)
    assert done == [0, 1, 2]
    assert sys.stdout is before
    assert (before.getvalue(), out.failed) == ("0\n1\n2", failed)


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("{} | true", 0, ""),
        ("{} >&-", 0, ""),
        ("{} >&- 2>&-", 0, ""),
        ("{} >/dev/full", 1, "sameface: standard output cannot be written (No space left on device)\n"),
        ("{} | cat", 0, f"sameface {__version__}\n"),
    ],
)
def test_a_command_whose_output_nobody_takes(how, code, said):
    if "/dev/full" in how and not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    command = f"'{sys.executable}' -m sameface --version"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", how.format(command)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout + done.stderr) == (code, said)


def test_names_cannot_steer_the_terminal(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.main(["reconstruct", "a\x1b[2J\nb.jpg", "--out", "out"])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("not used: there is no file or folder a\\x1b[2J\\nb.jpg;")
    assert err.count("\n") == 1
    assert harmless("grüße\t\x9b") == "grüße\\t\\x9b"


@pytest.mark.parametrize("argument", ["--out=~/faces", "~/faces"])
def test_the_users_folder_may_be_a_tilde(monkeypatch, tmp_path, capsys, argument):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.main(["reconstruct", "none.jpg", *([argument] if "=" in argument else ["--out", argument])])
    assert (tmp_path / "faces" / "photos.json").is_file()
    assert not (tmp_path / "~").exists()
    assert cli._at_home("--note=a~/b") == "--note=a~/b"
    assert cli._at_home("~anna") == "~anna"
