import gc
import os

import numpy as np
import pytest

from ferserve_server.ipc.shared_memory import FreeSlots, SharedBlock, SlotLayout

LAYOUT = SlotLayout(slot_count=3, face_bytes=4 * 48 * 48, score_bytes=4 * 7 * 4)


@pytest.fixture
def block():
    block = SharedBlock.create(LAYOUT)
    yield block
    block.close()


def test_what_one_side_writes_the_other_sees(block):
    other = SharedBlock(os.dup(block.fd), LAYOUT)

    block.faces(1, (4, 48, 48, 1))[2] = 9
    other.scores(1, (4, 7))[3] = 0.25

    assert (other.faces(1, (4, 48, 48, 1))[2] == 9).all()
    assert (block.scores(1, (4, 7))[3] == 0.25).all()
    other.close()


def test_slots_do_not_touch_each_other(block):
    for slot in range(3):
        block.faces(slot, (4, 48, 48, 1))[:] = slot + 1
        block.scores(slot, (4, 7))[:] = slot + 0.5

    for slot in range(3):
        assert (block.faces(slot, (4, 48, 48, 1)) == slot + 1).all()
        assert (block.scores(slot, (4, 7)) == np.float32(slot + 0.5)).all()


def test_every_slot_begins_on_a_page_of_its_own():
    assert LAYOUT.scores_at == 3 * 4096  # 9216 bytes of faces
    assert LAYOUT.slot_bytes == 4 * 4096
    assert LAYOUT.block_bytes == 12 * 4096


@pytest.mark.parametrize(("slot", "shape"), [(3, (1, 48, 48, 1)), (-1, (1, 48, 48, 1)), (0, (5, 48, 48, 1))])
def test_a_view_beyond_its_slot_is_rejected(block, slot, shape):
    with pytest.raises(ValueError, match="no room"):
        block.faces(slot, shape)


def test_memory_smaller_than_its_layout_is_rejected_and_its_descriptor_closed(block):
    fd = os.dup(block.fd)

    with pytest.raises(ValueError, match="49152 bytes, not 65536"):
        SharedBlock(fd, SlotLayout(4, 4 * 48 * 48, 4 * 7 * 4))

    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)


def test_arrays_outlive_the_block():
    block = SharedBlock.create(LAYOUT)
    faces = block.faces(0, (1, 48, 48, 1))
    faces[:] = 5

    block.close()
    block.close()
    gc.collect()

    assert (faces == 5).all()
    with pytest.raises(ValueError, match="closed"):
        block.faces(0, (1, 48, 48, 1))


def test_nothing_with_a_name_is_made(block):
    assert not any("ferserve" in name for name in os.listdir("/dev/shm"))  # noqa: S108, PTH208 - only looked at


def test_the_slot_used_last_is_taken_first():
    slots = FreeSlots(2)
    first, second = slots.take(), slots.take()

    assert {first, second} == {0, 1}
    assert slots.take() is None
    slots.give_back(first)
    slots.give_back(second)
    assert slots.take() == second
    assert len(slots) == 1


def test_a_slot_is_given_back_once():
    slots = FreeSlots(2)
    slot = slots.take()
    slots.give_back(slot)

    with pytest.raises(KeyError):
        slots.give_back(slot)
