// Runs the interoperability cases with @connectrpc/connect-node: `node connect_node.js ADDRESS DESCRIPTORS`.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const { createFileRegistry, fromBinary } = require("@bufbuild/protobuf");
const { FileDescriptorSetSchema } = require("@bufbuild/protobuf/wkt");
const { Code, createClient, decodeBinaryHeader, encodeBinaryHeader } = require("@connectrpc/connect");
const { compressionGzip, createGrpcTransport } = require("@connectrpc/connect-node");
const { ODD_TEXT, REQUEST_BYTES, REQUEST_SIZES, RESPONSE_SIZES, fails, run } = require("./cases.js");

const [address, descriptors] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, fs.readFileSync(descriptors)));
const baseUrl = `http://${address}`;
const plain = createGrpcTransport({ baseUrl });
const service = registry.getService("grpc.testing.TestService");
const client = createClient(service, plain);
const gzip = createClient(service, createGrpcTransport({ baseUrl, sendCompression: compressionGzip }));
const DUPLEX = { responseParameters: [{ size: 31415 }], payload: { body: new Uint8Array(27182) } };

async function* inputs() {
  for (const size of REQUEST_SIZES) {
    yield { payload: { body: new Uint8Array(size) } };
  }
}

async function* only(...requests) {
  yield* requests;
}

async function all(answers) {
  const found = [];
  for await (const answer of answers) {
    found.push(answer.payload.body.length);
  }
  return found;
}

/** Requests that are sent when the test says so. */
function requests() {
  const waiting = [];
  let more = () => {};
  let over = false;
  return {
    send(request) {
      waiting.push(request);
      more();
    },
    end() {
      over = true;
      more();
    },
    async *[Symbol.asyncIterator]() {
      while (waiting.length > 0 || !over) {
        if (waiting.length > 0) {
          yield waiting.shift();
        } else {
          await new Promise((resolve) => (more = resolve));
        }
      }
    },
  };
}

async function large(from) {
  const answer = await from.unaryCall({ responseSize: 314159, payload: { body: new Uint8Array(271828) } });
  assert.deepEqual(answer.payload.body, new Uint8Array(314159));
}

run({
  async empty_unary() {
    await client.emptyCall({});
  },

  large_unary: () => large(client),

  client_compressed_unary: () => large(gzip),

  async client_streaming() {
    assert.equal((await client.streamingInputCall(inputs())).aggregatedPayloadSize, REQUEST_BYTES);
  },

  async client_compressed_streaming() {
    assert.equal((await gzip.streamingInputCall(inputs())).aggregatedPayloadSize, REQUEST_BYTES);
  },

  async server_streaming() {
    const request = { responseParameters: RESPONSE_SIZES.map((size) => ({ size })) };
    assert.deepEqual(await all(client.streamingOutputCall(request)), RESPONSE_SIZES);
  },

  async ping_pong() {
    const sent = requests();
    const answers = client.fullDuplexCall(sent)[Symbol.asyncIterator]();
    for (const [at, size] of RESPONSE_SIZES.entries()) {
      sent.send({ responseParameters: [{ size }], payload: { body: new Uint8Array(REQUEST_SIZES[at]) } });
      assert.equal((await answers.next()).value.payload.body.length, size);
    }
    sent.end();
    assert.equal((await answers.next()).done, true);
  },

  async empty_stream() {
    assert.deepEqual(await all(client.fullDuplexCall(only())), []);
  },

  async cancel_after_begin() {
    const ends = new AbortController();
    const answer = client.streamingInputCall(requests(), { signal: ends.signal });
    ends.abort();
    await fails(answer, Code.Canceled);
  },

  async cancel_after_first_response() {
    const ends = new AbortController();
    const sent = requests();
    const answers = client.fullDuplexCall(sent, { signal: ends.signal })[Symbol.asyncIterator]();
    sent.send(DUPLEX);
    assert.equal((await answers.next()).value.payload.body.length, 31415);
    ends.abort();
    await fails(answers.next(), Code.Canceled);
  },

  async timeout_on_sleeping_server() {
    const request = { responseParameters: [{ size: 1, intervalUs: 10_000_000 }] };
    await fails(all(client.streamingOutputCall(request, { timeoutMs: 50 })), Code.DeadlineExceeded);
  },

  async status_code_and_message() {
    const responseStatus = { code: 2, message: "test status message" };
    await fails(client.unaryCall({ responseStatus }), 2, "test status message");
    await fails(all(client.fullDuplexCall(only({ responseStatus }))), 2, "test status message");
  },

  async special_status_message() {
    await fails(client.unaryCall({ responseStatus: { code: 2, message: ODD_TEXT } }), 2, ODD_TEXT);
  },

  async unimplemented_method() {
    await fails(client.unimplementedCall({}), Code.Unimplemented);
  },

  async unimplemented_service() {
    const stranger = createClient(registry.getService("grpc.testing.UnimplementedService"), plain);
    await fails(stranger.unimplementedCall({}), Code.Unimplemented);
  },

  async custom_metadata() {
    const bytes = new Uint8Array([0xab, 0xab, 0xab]);
    const headers = {
      "x-grpc-test-echo-initial": "test_initial_metadata_value",
      "x-grpc-test-echo-trailing-bin": encodeBinaryHeader(bytes),
    };
    for (const call of [
      (options) => client.unaryCall({ responseSize: 314159 }, options),
      (options) => all(client.fullDuplexCall(only(DUPLEX), options)),
    ]) {
      let initial, trailing;
      await call({ headers, onHeader: (found) => (initial = found), onTrailer: (found) => (trailing = found) });
      assert.equal(initial.get("x-grpc-test-echo-initial"), "test_initial_metadata_value");
      assert.deepEqual(decodeBinaryHeader(trailing.get("x-grpc-test-echo-trailing-bin")), bytes);
    }
  },
});
