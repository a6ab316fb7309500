#!/usr/bin/env bash
# trimesh 5.2.0 opens a .glb that REQUIRES the extension KHR_mesh_quantization, which it does not know, without a word. Normalised
# integers stay what they are in the file: a triangle one metre wide comes out 32,767 metres wide, its normals 127 long. And of
# blendshapes it keeps the names and drops the shapes: what it writes again says that it has a target "smile", and has none.
# (glTF: who does not know a required extension must not load the file; a normalised SHORT c means max(c / 32767, -1).)
# So a mesh for trimesh has to hold floats, and must not pass through it if it is to smile afterwards.
#
# Seen on x86-64 Linux, Python 3.11, trimesh 5.2.0 with numpy 2.4.6; gltf-validator 2.0.0-dev.3.10 finds no error in the file.
# "widest: 32767.0; normal: 127.0; warned: 0; names kept: ['smile']; shapes kept: 0".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip --quiet --disable-pip-version-check install --target "$work/packages" trimesh==5.2.0 numpy==2.4.6
cat > "$work/show.py" <<'PY'
import io, json, struct, sys, warnings
import numpy as np

positions, normals = np.zeros((3, 4), np.int16), np.zeros((3, 4), np.int8)  # three numbers, padded to four
positions[1, 0] = positions[2, 1] = 32767
normals[:, 2] = 127
faces, smile = np.array([0, 1, 2, 0], np.uint16), np.array([[0, 0, 0.25]] * 3, np.float32)  # the fourth is padding
parts = [positions.tobytes(), normals.tobytes(), faces.tobytes(), smile.tobytes()]
begins = np.cumsum([0, *map(len, parts)]).tolist()
views = [{"buffer": 0, "byteOffset": b, "byteLength": len(p)} for b, p in zip(begins, parts)]
views[0] |= {"byteStride": 8, "target": 34962}
views[1] |= {"byteStride": 4, "target": 34962}
views[2] |= {"byteLength": 6, "target": 34963}
views[3] |= {"target": 34962}
document = {
    "asset": {"version": "2.0"},
    "extensionsUsed": ["KHR_mesh_quantization"], "extensionsRequired": ["KHR_mesh_quantization"],
    "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
    "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1}, "indices": 2, "targets": [{"POSITION": 3}]}],
                "weights": [0.0], "extras": {"targetNames": ["smile"]}}],
    "accessors": [
        {"bufferView": 0, "componentType": 5122, "normalized": True, "count": 3, "type": "VEC3",
         "min": [0, 0, 0], "max": [32767, 32767, 0]},
        {"bufferView": 1, "componentType": 5120, "normalized": True, "count": 3, "type": "VEC3"},
        {"bufferView": 2, "componentType": 5123, "count": 3, "type": "SCALAR"},
        {"bufferView": 3, "componentType": 5126, "count": 3, "type": "VEC3", "min": [0, 0, 0.25], "max": [0, 0, 0.25]},
    ],
    "bufferViews": views, "buffers": [{"byteLength": begins[-1]}],
}
text, blob = json.dumps(document).encode(), b"".join(parts)
text += b" " * (-len(text) % 4)
whole = struct.pack("<III", 0x46546C67, 2, 28 + len(text) + len(blob)) + struct.pack("<II", len(text), 0x4E4F534A) + text
whole += struct.pack("<II", len(blob), 0x004E4942) + blob
if len(sys.argv) > 1:
    open(sys.argv[1], "wb").write(whole)

import trimesh

with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    scene = trimesh.load(io.BytesIO(whole), file_type="glb")
(mesh,) = scene.geometry.values()
again = scene.export(file_type="glb")
(length,) = struct.unpack("<I", again[12:16])
(written,) = json.loads(again[20 : 20 + length])["meshes"]
names, shapes = written.get("extras", {}).get("targetNames"), written["primitives"][0].get("targets", [])
print(f"widest: {np.ptp(mesh.vertices, axis=0).max()}; normal: {np.linalg.norm(mesh.vertex_normals[0])}; "
      f"warned: {len(warned)}; names kept: {names}; shapes kept: {len(shapes)}")
PY
said=$(PYTHONPATH="$work/packages" python3 "$work/show.py" 2>/dev/null) || { echo "trimesh refuses the file now"; exit 1; }
echo "$said"
test "$said" = "widest: 32767.0; normal: 127.0; warned: 0; names kept: ['smile']; shapes kept: 0" ||
    { echo "trimesh reads such files otherwise now"; exit 1; }
