"""The description of a device that timings are keyed by."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from exeunt.backends.errors import DeviceError
from exeunt.backends.timing.device import device_id, device_name, environment
from exeunt.backends.timing.samples import environment_digest


def test_the_description_is_json_and_says_what_ran() -> None:
    described = environment("cpu")
    assert json.loads(json.dumps(described)) == described
    assert described["device"] == device_name("cpu")
    assert described["torch"] == torch.__version__
    assert described["torch_threads"] == torch.get_num_threads()
    assert described["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")


def test_the_processor_is_named_as_the_kernel_names_it() -> None:
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    assert environment("cpu")["processor"]
    if "model name" in text:
        assert f": {environment('cpu')['processor']}\n" in text


def test_the_digest_is_the_same_in_another_process_and_another_for_other_threads() -> None:
    program = (
        "import torch; from exeunt.backends.timing.device import environment;"
        "from exeunt.backends.timing.samples import environment_digest as digest;"
        f"torch.set_num_threads({torch.get_num_threads()}); print(digest(environment('cpu')));"
        f"torch.set_num_threads({torch.get_num_threads() + 1}); print(digest(environment('cpu')))"
    )
    same, other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert same == environment_digest(environment("cpu"))
    assert other != same


def test_the_processor_has_one_lock_name() -> None:
    assert device_id("cpu") == device_id(torch.device("cpu")) == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_an_absent_device_is_an_error_with_the_fix() -> None:
    with pytest.raises(DeviceError, match="--device cpu"):
        environment("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_is_described_by_its_own_name_and_driver() -> None:
    described = environment("cuda")
    assert described["device"] == torch.cuda.get_device_name()
    assert described["cuda"] == torch.version.cuda
    assert device_id("cuda") == device_id("cuda:0") != "cpu"
    assert json.loads(json.dumps(described)) == described
