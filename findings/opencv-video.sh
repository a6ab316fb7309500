#!/usr/bin/env bash
# OpenCV's VideoCapture (FFmpeg) says True for interlaced frames that it never wrote, and leaves out what a header says.
#
# Of opencv-python-headless 5.0.0.93, against PyAV 18.1.0, both with FFmpeg inside. Seen on Linux x86-64, Python 3.11:
#   interlaced H.264, flat 200 60 90:  OpenCV read() True, mean 21 21 21  PyAV mean 198 59 87
#   mirrored by the display matrix, red above left: OpenCV turns it by 180 degrees (red below right, not above right)
#   AVI with B-frames, 100 at 25/s:    OpenCV's last frame at 0.0 s       PyAV's at 4.0 s
#   Matroska, 10 frames, 1750 s pause: OpenCV counts 43760 frames         PyAV decodes 10
# (OpenCV's mean of a frame that was not written is that of whatever was in the memory; 4.12 decodes it.)
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m pip --disable-pip-version-check --quiet install --target "$place/packages" --only-binary :all: \
  opencv-python-headless==5.0.0.93 av==18.1.0 numpy==2.4.6
cd "$place"
PYTHONPATH="$place/packages" python3 - 2> errors.txt <<'PYTHON' || { tail -n 1 errors.txt; exit 1; }
import struct
import sys
from fractions import Fraction

import av
import cv2
import numpy as np


def written(path, pictures, codec="mpeg4", times=None, b_frames=0, **options):
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.max_b_frames = b_frames
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (times[k], Fraction(1, 1000)) if times else (k, Fraction(1, 25))
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def by_opencv(path):
    video, found = cv2.VideoCapture(path, cv2.CAP_FFMPEG), []
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    while True:
        whole, picture = video.read()
        if not whole:
            return count, found
        found.append((video.get(cv2.CAP_PROP_POS_MSEC) / 1000, picture[..., ::-1].copy()))


def by_pyav(path):
    with av.open(path) as file:
        frames = list(file.decode(video=0))
        return [(one.time, one.to_ndarray(format="rgb24"), one.side_data.get("DISPLAYMATRIX")) for one in frames]


flat = np.full((64, 96, 3), (200, 60, 90), np.uint8)
corner = np.zeros_like(flat)
corner[:32, :48] = 255, 0, 0
faults = 0

clip = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
path = written("interlaced.mp4", [flat] * 3, "libx264", **clip)
theirs, ours = by_opencv(path)[1][0][1].mean((0, 1)), by_pyav(path)[0][1].mean((0, 1))
print("interlaced:", "OpenCV True, mean", theirs.round(), "PyAV mean", ours.round())
faults += abs(theirs - (200, 60, 90)).max() > 20 and abs(ours - (200, 60, 90)).max() < 5

path = written("mirrored.mp4", [corner] * 3)
data = bytearray(open(path, "rb").read())
struct.pack_into(">9i", data, data.index(b"tkhd") + 44, -65536, 0, 0, 0, 65536, 0, 96 * 65536, 0, 1 << 30)
open(path, "wb").write(data)
found = by_opencv(path)[1][0][1]
below, above = found[40:, 56:, 0].mean(), found[:24, 56:, 0].mean()
print(f"mirrored: OpenCV's red above right {above:.0f}, below right {below:.0f}; PyAV has", by_pyav(path)[0][2].type.name)
faults += below > 200 > above

path = written("b.avi", [flat] * 100, b_frames=2)
last = by_opencv(path)[1][-1][0], by_pyav(path)[-1][0]
print("AVI with B-frames: the last frame is at", *last)
faults += last[0] == 0

path = written("pause.mkv", [flat] * 10, times=[40 * k + 1_750_000 * (k > 4) for k in range(10)])
count = by_opencv(path)[0], len(by_pyav(path))
print("a pause: frames", *count)
faults += count[0] > 40000
if faults < 4:
    sys.exit(f"only {faults} of the 4 faults that the comment names are there")
PYTHON
