import pytest

from ferserve_training.nets.spec import ConvSpec, NetSpec
from ferserve_training.recipes.catalog import RECIPES


def test_macs_and_parameters_of_a_small_net_agree_with_a_count_by_hand():
    net = NetSpec((ConvSpec(2, stride=2), ConvSpec(2, residual=True)))

    assert net.mac_count == 24 * 24 * 9 * 1 * 2 + 24 * 24 * 9 * 2 * 2 + 2 * 7
    assert net.parameter_count == (9 * 1 + 1) * 2 + (9 * 2 + 1) * 2 + (2 + 1) * 7


def test_fer_nano_keeps_within_five_million_macs():
    net = RECIPES["fer-nano"].net

    assert (net.mac_count, net.parameter_count) == (4_562_592, 125_543)


@pytest.mark.parametrize("conv", [ConvSpec(8, residual=True), ConvSpec(1, stride=2, residual=True)])
def test_a_residual_of_another_shape_is_rejected(conv):
    with pytest.raises(ValueError, match="convolution 0 cannot be residual"):
        NetSpec((conv,))
