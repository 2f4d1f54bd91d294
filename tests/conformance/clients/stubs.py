"""Runs the stubs of KServe and MLServer: stubs.py ADDRESS kserve|mlserver.

Their frameworks are not installed, so their packages are entered without running what stands in their `__init__`.
"""

import importlib
import importlib.util
import json
import struct
import sys
import types
from pathlib import Path

import grpc

MODULES = {
    "kserve": ("kserve.protocol.grpc", "grpc_predict_v2_pb2"),
    "mlserver": ("mlserver.grpc", "dataplane_pb2"),
}
address, kind = sys.argv[1:]
package, name = MODULES[kind]
root = Path(importlib.util.find_spec(kind).submodule_search_locations[0])
parts = package.split(".")
for count in range(1, len(parts) + 1):
    empty = types.ModuleType(".".join(parts[:count]))
    empty.__path__ = [str(root.joinpath(*parts[1:count]))]
    sys.modules[empty.__name__] = empty
messages = importlib.import_module(f"{package}.{name}")
stubs = importlib.import_module(f"{package}.{name}_grpc")

with grpc.insecure_channel(address) as channel:
    service = stubs.GRPCInferenceServiceStub(channel)
    assert service.ServerLive(messages.ServerLiveRequest()).live
    assert service.ServerReady(messages.ServerReadyRequest()).ready
    assert service.ModelReady(messages.ModelReadyRequest(name="fer-nano")).ready
    metadata = service.ModelMetadata(messages.ModelMetadataRequest(name="fer-nano"))
    assert [tensor.name for tensor in metadata.outputs] == ["probabilities", "labels"]
    request = messages.ModelInferRequest(model_name="fer-nano", id="abc")
    tensor = request.inputs.add(name="faces", datatype="UINT8", shape=[1, 48, 48, 1])
    tensor.contents.uint_contents.extend([7] * 48 * 48)
    response = service.ModelInfer(request)
    assert response.id == "abc"
    assert len(response.raw_output_contents) == 2
    print(json.dumps(struct.unpack("<7f", response.raw_output_contents[0])))
