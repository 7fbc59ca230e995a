"""The contract of a model is enforced where its class is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ase_mlcalc.kernels.fit import Fit
from ase_mlcalc.model import Model, ModelConfig, lookup
from ase_mlcalc.properties import Properties
from ase_mlcalc.testing import temporary_models


@pytest.fixture(autouse=True)
def _forget_models():
    with temporary_models():
        yield


def define(name, outputs=frozenset({"energies"}), module="third_party", config=ModelConfig):
    """A class of a model as a module of that name would write it."""

    def forward(_self, _graph):
        return Properties()

    body = {"Config": config, "forward": forward, "__module__": module, "__qualname__": "SchNet"}
    return type(Model)("SchNet", (Model,), body, name=name, outputs=set(outputs))


def test_a_name_is_taken_once_whatever_the_class_is_called():
    ours = lookup("schnet")
    with pytest.raises(TypeError, match=r"two models are named 'schnet': ase_mlcalc\..*third_party\.SchNet; rename"):
        define("schnet")
    assert lookup("schnet") is ours


def test_a_module_that_is_read_anew_replaces_its_model():
    define("toy")
    again = define("toy")
    assert lookup("toy") is again


def test_class_lines_that_promise_nothing_are_refused():
    with pytest.raises(TypeError, match="declares no outputs"):
        define("toy", outputs=())
    with pytest.raises(ValueError, match="unknown outputs"):
        define("toy", outputs={"enegies"})
    with pytest.raises(TypeError, match="needs a class attribute Config"):
        define("toy", config=dict)


def test_models_are_final():
    with pytest.raises(TypeError, match="models are final"):
        type("Better", (lookup("schnet"),), {"Config": ModelConfig}, name="better", outputs={"energies"})


def test_temporary_models_forget_none_of_the_package():
    code = """
from ase_mlcalc.model import lookup
from ase_mlcalc.testing import temporary_models
with temporary_models():  # nothing has asked for a model before
    lookup("schnet")
lookup("schnet")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)  # noqa: S603


def test_size_counts_all_numbers_that_a_checkpoint_holds():
    water = lookup("sgdml")(lookup("sgdml").Config())
    before = water.size
    points_md = torch.ones(5, 3, dtype=torch.float64)
    water.put(Fit(torch.zeros(3, dtype=torch.float64), points_md, points_md, 10.0), torch.arange(3)[None])
    assert water.size == before + 2 * points_md.numel()
    schnet = lookup("schnet")(lookup("schnet").Config())
    assert schnet.size == sum(parameter.numel() for parameter in schnet.parameters())


MINE = """
from torch import zeros_like
from ase_mlcalc import Model, Properties
from ase_mlcalc.model import NetworkConfig

class Nothing(Model, name="nothing_at_all", outputs={"energies"}):
    Config = NetworkConfig
    trainable = False

    def forward(self, graph):
        return Properties(energies=zeros_like(graph.positions[:, 0]))
"""


@pytest.mark.parametrize(("modules", "status", "words"), [
    ("of_mine", 0, "nothing_at_all"),
    ("", 0, "equivariant"),
    ("of_mine,of_yours", 1, "ASE_MLCALC_MODELS names 'of_yours', which cannot be imported: No module named"),
])  # fmt: skip
def test_models_in_the_working_directory(tmp_path, modules, status, words):
    (tmp_path / "of_mine.py").write_text(MINE, encoding="utf-8")
    command = Path(sys.executable).with_name("ase-mlcalc")
    done = subprocess.run(  # noqa: S603
        [command, "models"], cwd=tmp_path, env=os.environ | {"ASE_MLCALC_MODELS": modules},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, words in done.stdout + done.stderr) == (status, True), done.stderr
    assert ("nothing_at_all" in done.stdout) == (modules == "of_mine")
