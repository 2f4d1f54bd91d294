// Runs the interoperability cases with @grpc/grpc-js: `node grpc_js.js ADDRESS DESCRIPTORS`.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const { ODD_TEXT, REQUEST_BYTES, REQUEST_SIZES, RESPONSE_SIZES, fails, run } = require("./cases.js");

const [address, descriptors] = process.argv.slice(2);
const definition = loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(descriptors), { keepCase: true });
const { TestService, UnimplementedService } = grpc.loadPackageDefinition(definition).grpc.testing;
const insecure = grpc.credentials.createInsecure();
const client = new TestService(address, insecure);
const gzip = new TestService(address, insecure, {
  "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip,
});
const DUPLEX = { response_parameters: [{ size: 31415 }], payload: { body: Buffer.alloc(27182) } };

function unary(service, method, request, metadata = new grpc.Metadata()) {
  const reported = {};
  reported.answer = new Promise((resolve, reject) => {
    const call = service[method](request, metadata, (error, answer) => (error ? reject(error) : resolve(answer)));
    reported.initial = new Promise((heard) => call.on("metadata", heard));
    reported.ended = new Promise((heard) => call.on("status", heard));
  });
  return reported;
}

/** The messages and the end of a call that answers with a stream. */
function heard(call) {
  const answers = [];
  const waiting = [];
  call.on("data", (answer) => {
    answers.push(answer);
    waiting.splice(0).forEach((each) => each());
  });
  const initial = new Promise((resolve) => call.on("metadata", resolve));
  const ended = new Promise((resolve, reject) => {
    call.on("error", reject);
    call.on("status", (status) => status.code === 0 && resolve(status));
  });
  ended.catch(() => {});
  const until = async (count) => {
    while (answers.length < count) {
      await new Promise((resolve) => waiting.push(resolve));
    }
  };
  return { answers, ended, initial, until };
}

async function sizes(service) {
  return new Promise((resolve, reject) => {
    const call = service.StreamingInputCall((error, answer) => (error ? reject(error) : resolve(answer)));
    REQUEST_SIZES.forEach((size) => call.write({ payload: { body: Buffer.alloc(size) } }));
    call.end();
  });
}

async function large(service) {
  const request = { response_size: 314159, payload: { body: Buffer.alloc(271828) } };
  const answer = await unary(service, "UnaryCall", request).answer;
  assert.deepEqual(answer.payload.body, Buffer.alloc(314159));
}

run({
  async empty_unary() {
    await unary(client, "EmptyCall", {}).answer;
  },

  large_unary: () => large(client),

  client_compressed_unary: () => large(gzip),

  async client_streaming() {
    assert.equal((await sizes(client)).aggregated_payload_size, REQUEST_BYTES);
  },

  async client_compressed_streaming() {
    assert.equal((await sizes(gzip)).aggregated_payload_size, REQUEST_BYTES);
  },

  async server_streaming() {
    const request = { response_parameters: RESPONSE_SIZES.map((size) => ({ size })) };
    const { answers, ended } = heard(client.StreamingOutputCall(request));
    await ended;
    assert.deepEqual(
      answers.map((answer) => answer.payload.body.length),
      RESPONSE_SIZES,
    );
  },

  async ping_pong() {
    const call = client.FullDuplexCall();
    const { answers, ended, until } = heard(call);
    for (const [at, size] of RESPONSE_SIZES.entries()) {
      call.write({ response_parameters: [{ size }], payload: { body: Buffer.alloc(REQUEST_SIZES[at]) } });
      await until(at + 1);
      assert.equal(answers[at].payload.body.length, size);
    }
    call.end();
    await ended;
  },

  async empty_stream() {
    const call = client.FullDuplexCall();
    call.end();
    const { answers, ended } = heard(call);
    await ended;
    assert.equal(answers.length, 0);
  },

  async cancel_after_begin() {
    const answer = new Promise((resolve, reject) => {
      const call = client.StreamingInputCall((error, found) => (error ? reject(error) : resolve(found)));
      call.cancel();
    });
    await fails(answer, grpc.status.CANCELLED);
  },

  async cancel_after_first_response() {
    const call = client.FullDuplexCall();
    const { ended, until } = heard(call);
    call.write(DUPLEX);
    await until(1);
    call.cancel();
    await fails(ended, grpc.status.CANCELLED);
  },

  async timeout_on_sleeping_server() {
    const request = { response_parameters: [{ size: 1, interval_us: 10_000_000 }] };
    const call = client.StreamingOutputCall(request, new grpc.Metadata(), { deadline: Date.now() + 50 });
    await fails(heard(call).ended, grpc.status.DEADLINE_EXCEEDED);
  },

  async status_code_and_message() {
    const response_status = { code: 2, message: "test status message" };
    await fails(unary(client, "UnaryCall", { response_status }).answer, 2, "test status message");
    const call = client.FullDuplexCall();
    const { ended } = heard(call);
    call.write({ response_status });
    await fails(ended, 2, "test status message");
  },

  async special_status_message() {
    const response_status = { code: 2, message: ODD_TEXT };
    await fails(unary(client, "UnaryCall", { response_status }).answer, 2, ODD_TEXT);
  },

  async unimplemented_method() {
    await fails(unary(client, "UnimplementedCall", {}).answer, grpc.status.UNIMPLEMENTED);
  },

  async unimplemented_service() {
    const stranger = new UnimplementedService(address, insecure);
    await fails(unary(stranger, "UnimplementedCall", {}).answer, grpc.status.UNIMPLEMENTED);
  },

  async custom_metadata() {
    const metadata = new grpc.Metadata();
    metadata.set("x-grpc-test-echo-initial", "test_initial_metadata_value");
    metadata.set("x-grpc-test-echo-trailing-bin", Buffer.from("ababab", "hex"));
    const reported = unary(client, "UnaryCall", { response_size: 314159 }, metadata);
    await reported.answer;
    const call = client.FullDuplexCall(metadata);
    const duplex = heard(call);
    call.write(DUPLEX);
    call.end();
    for (const { initial, ended } of [reported, duplex]) {
      assert.deepEqual((await initial).get("x-grpc-test-echo-initial"), ["test_initial_metadata_value"]);
      const trailing = (await ended).metadata.get("x-grpc-test-echo-trailing-bin");
      assert.deepEqual(trailing, [Buffer.from("ababab", "hex")]);
    }
  },
});
