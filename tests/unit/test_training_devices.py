import pytest
import typer

from ferserve_training.cli.options import read_device_count
from ferserve_training.errors import TrainingError
from ferserve_training.framework.pick_devices import pick_devices

_GPUS, _CPUS = ["gpu0", "gpu1", "gpu2"], ["cpu0", "cpu1"]


def test_all_gpus_share_a_batch_unless_a_number_is_given():
    assert pick_devices((_GPUS, _CPUS), None, 12) == _GPUS
    assert pick_devices((_GPUS, _CPUS), 2, 12) == _GPUS[:2]


def test_without_a_gpu_the_cpu_is_one_device_unless_a_number_is_given():
    assert pick_devices(([], _CPUS), None, 12) == _CPUS[:1]
    assert pick_devices(([], _CPUS), 2, 12) == _CPUS


def test_devices_that_are_not_there_are_rejected():
    with pytest.raises(TrainingError, match="there are 3 GPUs, not 4; give a smaller number of --devices"):
        pick_devices((_GPUS, _CPUS), 4, 12)
    with pytest.raises(TrainingError, match="there is 1 CPU device, not 2"):
        pick_devices(([], _CPUS[:1]), 2, 12)


def test_a_batch_that_cannot_be_split_evenly_is_rejected_with_one_that_can():
    with pytest.raises(TrainingError, match=r"a batch of 128 faces cannot .* 3 devices; add --set batch_size=129"):
        pick_devices((_GPUS, _CPUS), None, 128)


def test_the_number_of_devices_is_all_or_a_number_above_0():
    assert read_device_count("all") is None
    assert read_device_count("2") == 2
    for wrong in ("0", "-1", "two", ""):
        with pytest.raises(typer.BadParameter, match="neither 'all' nor a number above 0"):
            read_device_count(wrong)
