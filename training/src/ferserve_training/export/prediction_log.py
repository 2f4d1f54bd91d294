"""Encodes `tensorflow.serving.PredictionLog`, one request each: the records of TensorFlow Serving's warm-up file.

Four messages of that interface are needed and no more of it, so their few fields are encoded here by hand, as
protobuf's wire format has it (https://protobuf.dev/programming-guides/encoding): a key byte (field number x 8 + 2,
"length-delimited"), the length as a varint, the content. The fields, from prediction_log.proto, predict.proto and
model.proto:

    PredictionLog    predict_log = 6         PredictLog
    PredictLog       request = 1             PredictRequest
    PredictRequest   model_spec = 1          ModelSpec
                     inputs = 2              map: an entry each, with key = 1 and value = 2 (TensorProto)
    ModelSpec        name = 1, signature_name = 3
"""

from typing import Final

_LENGTH_DELIMITED: Final = 2


def prediction_log(model_name: str, input_name: str, tensor: bytes) -> bytes:
    """Encode a PredictionLog of one request to the signature `serving_default`.

    Args:
        model_name: That the request names.
        input_name: Of the signature.
        tensor: A TensorProto, encoded.
    """
    spec = _field(1, model_name.encode()) + _field(3, b"serving_default")
    entry = _field(1, input_name.encode()) + _field(2, tensor)
    request = _field(1, spec) + _field(2, entry)
    return _field(6, _field(1, request))


def _field(number: int, content: bytes) -> bytes:
    """Encode a length-delimited field; field numbers up to 15 fit one key byte."""
    return bytes([number << 3 | _LENGTH_DELIMITED]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Encode a non-negative number in groups of seven bits, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
