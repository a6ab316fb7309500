"""The whole pipeline on a scanned head with real skin, whose every vertex is known (Lee Perry-Smith, CC BY 3.0)."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh  # noqa: F401  the study reads the head with it: imported here, its seconds are no test's

from sameface.core.geometry import euler_from_rotation
from sameface.evaluation.benchmarks.photo_scan import Options, baselines
from sameface.photo.face import Photo
from sameface.photo.observe import observe
from sameface.photo.predictor import load, second

SIZE = 320


def beside(name):
    """A study is a script beside its siblings."""
    folder = str(Path(__file__).parent.parent / "studies")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


study = beside("scan")


@pytest.fixture(scope="module")
def head(shared):
    return study.read_head(shared(study.HEAD))


@pytest.fixture(scope="module")
def seen(head):
    """Three sides from a metre, each under another light."""
    found = {}
    for side, light in zip(((0, 0), (40, 0), (-40, 0)), study.LIGHTS, strict=False):
        drawn = study.picture(head, study.camera_at(side, 1000, SIZE), light, 0)
        (found[side],) = observe(Photo(drawn, f"{side}"), load("default"), second=second())
    return found


def test_what_cannot_be_seen_is_not_in_the_scan(head):
    """The mouth is a bag behind the lips, the nostrils go far in: a third of the head's vertices near the face."""
    inside = len(head.vertices) - len(head.scan.mesh.vertices)
    assert 0.25 < inside / len(head.vertices) < 0.45
    assert np.abs(head.scan.landmarks[30] - [0, 0, 35]).max() < 12  # the nose's tip is where ours is, and as large


def test_who_knows_more_of_the_head_is_nearer(head):
    mean, landmarks, floor = baselines(head.scan, Options())
    assert 1.2 < mean < 1.9
    assert 1.1 * floor < landmarks < 0.95 * mean
    assert floor < 0.6 * mean


def test_its_pictures_show_it_where_the_camera_says(head, seen):
    for side, one in seen.items():
        camera = study.camera_at(side, 1000, SIZE)
        assert abs(np.degrees(euler_from_rotation(one.camera.rotation)[1]) - side[0]) < 12
        truth = camera.project(head.scan.landmarks[[36, 45, 33]])
        middle = np.median(one.landmarks, axis=0)
        assert np.linalg.norm(middle - truth.mean(0)) < 0.08 * SIZE


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("sides", [((0, 0),), ((0, 0), (40, 0), (-40, 0))])
def test_the_pipeline_is_no_worse_than_knowing_nothing_and_no_better_than_the_floor(head, seen, sides, known):
    camera = study.camera_at((0, 0), 1000, SIZE)
    mean, _, floor = baselines(head.scan, Options())
    error, distance = study.error_of(head, [seen[side] for side in sides], float(camera.focal) if known else None)
    assert floor < error < 1.15 * mean
    assert 600 < distance < 1700
