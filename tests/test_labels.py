import numpy as np
import pytest

from sameface.core.errors import BadData
from sameface.training.labels import in_photo


def test_labels_in_our_own_units_need_no_conversion(tiny_model):
    params = np.concatenate([[0.5, 0, 0, 80, 0, 0.5, 0, 60, 0, 0, 0.5, 0], np.arange(10.0)])
    matrix, coefficients = in_photo(params, tiny_model, 160)
    np.testing.assert_allclose(matrix, [[0.5, 0, 0, 80], [0, -0.5, 0, 100], [0, 0, -0.5, 0]])
    np.testing.assert_array_equal(coefficients, np.arange(10.0))
    assert params[5] == 0.5  # the label itself is left alone


def test_labels_of_3ddfa_are_micrometres_and_unscaled(tiny_model):
    from dataclasses import replace

    model = replace(tiny_model, extra={"parameters_std": np.full(22, 4.0)})
    matrix, coefficients = in_photo(np.full(22, 2.0), model, 10)
    assert matrix[0].tolist() == [2000, 2000, 2000, 2]
    assert matrix[1].tolist() == [-2000, -2000, -2000, 8]
    assert set(coefficients) == {0.5}


def test_labels_of_another_model_are_refused(tiny_model):
    with pytest.raises(BadData, match=r"gives 23 parameters, but tiny has 22 \(12 \+ 6 \+ 4\).*or make labels"):
        in_photo(np.zeros(23), tiny_model, 10)
