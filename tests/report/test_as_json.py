import numpy as np
import pytest

from provisioner.report.as_json import plain_value


def test_numpy_values_become_plain() -> None:
    assert plain_value({"a": np.float64(1.5), "b": np.arange(3), "c": np.bool_(True)}) == {
        "a": 1.5,
        "b": [0, 1, 2],
        "c": True,
    }
    assert type(plain_value(np.int64(3))) is int


def test_a_value_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot write a object as JSON"):
        plain_value(object())
