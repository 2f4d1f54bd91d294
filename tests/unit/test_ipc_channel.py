import os
import threading

import pytest

from ferserve_server.engine.messages import BATCH_MESSAGE_BYTES, BatchKind, BatchMessage, pack, unpack
from ferserve_server.ipc.channel import (
    MAX_MESSAGE_BYTES,
    Channel,
    ChannelClosedError,
    ChannelFullError,
    MessageTooLongError,
)


@pytest.fixture
def ends():
    left, right = Channel.pair()
    yield left, right
    left.close()
    right.close()


def test_messages_keep_their_bounds_and_their_order(ends):
    left, right = ends
    for message in (b"a", b"bc", b"d" * MAX_MESSAGE_BYTES):
        left.send(message)
        assert right.receive() == message

    left.send_now(b"1")
    left.send_now(b"2")
    assert [right.receive_now(), right.receive_now(), right.receive_now()] == [b"1", b"2", None]


def test_what_was_sent_is_read_before_the_end_is_reported(ends):
    left, right = ends
    left.send(b"last words")
    left.close()

    assert right.receive_now() == b"last words"
    with pytest.raises(ChannelClosedError):
        right.receive_now()
    with pytest.raises(ChannelClosedError):
        right.receive()
    with pytest.raises(ChannelClosedError):
        right.receive_with_fds()
    with pytest.raises(ChannelClosedError):
        right.send_now(b"anybody?")


def test_a_closed_end_sends_nothing(ends):
    left, _ = ends
    left.close()

    with pytest.raises(ChannelClosedError):
        left.send(b"x")


def test_a_side_that_does_not_read_is_reported_to_the_sender_without_waiting(ends):
    left, right = ends
    for sent in range(200):  # a hung engine is met long before that: its slots run out
        left.send_now(pack(BatchMessage(BatchKind.RUN, slot=0, sequence=sent)))

    def fill():
        while True:
            left.send_now(b"x" * 28)

    with pytest.raises(ChannelFullError):
        fill()
    assert unpack(right.receive()).sequence == 0


@pytest.mark.parametrize("message", [b"", b"x" * (MAX_MESSAGE_BYTES + 1)])
def test_messages_of_no_or_too_many_bytes_are_rejected(ends, message):
    left, _ = ends

    with pytest.raises(MessageTooLongError):
        left.send(message)


def test_file_descriptors_travel_with_a_message(ends):
    left, right = ends
    read, write = os.pipe()
    left.send(b"take this", [write])

    message, fds = right.receive_with_fds()

    assert message == b"take this"
    assert not os.get_inheritable(fds[0])
    os.write(fds[0], b"through")
    assert os.read(read, 10) == b"through"
    for fd in (read, write, *fds):
        os.close(fd)


def test_shutting_down_wakes_who_waits_on_either_side(ends):
    woken = []

    def wait(end):
        with pytest.raises(ChannelClosedError):
            end.receive()
        woken.append(end)

    threads = [threading.Thread(target=wait, args=(end,)) for end in ends]
    for thread in threads:
        thread.start()
    ends[0].shut_down()
    ends[0].shut_down()
    for thread in threads:
        thread.join(20)

    assert len(woken) == 2


def test_messages_of_batches_come_through_whole():
    message = BatchMessage(BatchKind.FAILED, 65535, 3, 128, 2**40, 1_234_567, 5, "no such géant")

    assert unpack(pack(message)) == message
    assert len(pack(BatchMessage(BatchKind.RUN, 1))) == 28


def test_a_long_text_is_cut_off():
    packed = pack(BatchMessage(BatchKind.FAILED, 0, text="é" * 5000))

    assert len(packed) <= BATCH_MESSAGE_BYTES
    assert unpack(packed).text.startswith("ééé")


@pytest.mark.parametrize("data", [b"", b"\x01" * 27, b"\x63" + b"\0" * 27])
def test_what_is_no_message_of_a_batch_is_rejected(data):
    with pytest.raises(ValueError, match=r"batch|BatchKind"):
        unpack(data)
