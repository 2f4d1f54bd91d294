"""Tests that a user's own settings of Keras either change nothing or are reported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_COMMAND = str(Path(sys.executable).with_name("ferserve-train"))
_BUILD = """
from ferserve_training.nets.build import build_net
from ferserve_training.recipes.catalog import RECIPES
import numpy as np
model = build_net(RECIPES["fer-nano"].net, 0)
outputs = model(np.full((1, 48, 48, 1), 100.0, np.float32))
print(outputs.shape, outputs.dtype, model.weights[0].dtype)
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"image_data_format": "channels_first", "floatx": "float32"},
        {"image_data_format": "channels_last", "floatx": "float16"},
    ],
)
def test_a_keras_json_with_other_defaults_changes_nothing(settings, tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps(settings | {"epsilon": 1e-3, "backend": "tensorflow"}))
    environment = os.environ | {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "tensorflow"}

    done = subprocess.run(
        [sys.executable, "-c", _BUILD], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.split("\n")[0] == "(1, 7) <dtype: 'float32'> float32"


def test_a_backend_that_trains_no_net_is_named_before_it_is_imported():
    environment = os.environ | {"KERAS_BACKEND": "torch"}

    done = subprocess.run([_COMMAND, "list"], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "KERAS_BACKEND is torch; nets are trained with tensorflow or jax" in done.stderr
    assert "Traceback" not in done.stderr
