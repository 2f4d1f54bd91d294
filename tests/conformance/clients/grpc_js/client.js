// gRPC as Node speaks it. `node client.js ADDRESS SCENARIO` prints, as JSON, what came of the scenario. CA_FILE in the
// environment asks for TLS.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const timers = require("node:timers/promises");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, scenario] = process.argv.slice(2);
const authority = process.env.CA_FILE;
const credentials = authority
  ? grpc.credentials.createSsl(fs.readFileSync(authority))
  : grpc.credentials.createInsecure();
const loaded = loader.loadSync(
  ["ferserve/v1/emotion_service.proto", path.join(__dirname, "..", "health.proto")],
  { includeDirs: [path.join(__dirname, "../../../../proto")], keepCase: true, enums: String, defaults: true, oneofs: true },
);
const { ferserve, grpc: standard } = grpc.loadPackageDefinition(loaded);
const FACE_BYTES = 48 * 48;

/** Faces `first` to `first + count - 1` of those that all clients here make, packed. */
function faces(first, count) {
  const pixels = Buffer.alloc(count * FACE_BYTES);
  for (let face = 0; face < count; face++) {
    for (let at = 0; at < FACE_BYTES; at++) {
      pixels[face * FACE_BYTES + at] = (at * at) % (2 + ((29 * (first + face)) % 254));
    }
  }
  return { pixels, face_count: count };
}

function connect(options = {}) {
  return new ferserve.v1.EmotionService(address, credentials, {
    "grpc.max_send_message_length": -1,
    "grpc.use_local_subchannel_pool": 1,
    ...options,
  });
}

/** What a call ended with, as the tests look at it. */
function reported(error) {
  const details = error.metadata?.get("grpc-status-details-bin")[0];
  return { code: error.code, message: error.details, details: details ? details.toString("base64") : null };
}

function scoresOf(answer) {
  return { code: 0, scores: answer.results.map((each) => each.prediction.scores) };
}

function classify(client, request, { metadata = new grpc.Metadata(), ...options } = {}) {
  return new Promise((resolve) => {
    client.ClassifyFaces(request, metadata, { deadline: Date.now() + 60_000, ...options }, (error, answer) =>
      resolve(error ? reported(error) : scoresOf(answer)),
    );
  });
}

/** Calls a method that no service has. */
function askNothing(client, request) {
  const { requestSerialize, responseDeserialize } = ferserve.v1.EmotionService.service.ClassifyFaces;
  return new Promise((resolve) =>
    client.makeUnaryRequest(
      "/ferserve.v1.EmotionService/Nothing",
      requestSerialize,
      responseDeserialize,
      request,
      (error) => resolve(reported(error)),
    ),
  );
}

/** A stream, the numbers and scores of its answers, and `ended`, which resolves when it is over. */
function open(client, options = {}) {
  const call = client.ClassifyStream(new grpc.Metadata(), { deadline: Date.now() + 60_000, ...options });
  const answers = [];
  let heard = () => {};
  call.on("data", (answer) => {
    answers.push({ id: Number(answer.sequence_id), scores: answer.predictions.map((each) => each.scores) });
    heard();
  });
  const ended = new Promise((resolve) => {
    call.on("error", (error) => resolve({ ...reported(error), answers }));
    call.on("status", (status) => status.code === 0 && resolve({ code: 0, answers }));
  });
  return {
    call,
    ended,
    write: (id, count) => call.write({ sequence_id: id, faces: faces(id, count) }),
    async untilAnswered(count) {
      while (answers.length < count) {
        await new Promise((resolve) => (heard = resolve));
      }
    },
  };
}

const SCENARIOS = {
  async single_faces() {
    const client = connect();
    return Promise.all(Array.from({ length: 300 }, (_, at) => classify(client, { packed: faces(at, 1) })));
  },

  async long_messages() {
    const client = connect();
    return Promise.all(Array.from({ length: 6 }, (_, at) => classify(client, { packed: faces(at, 512) })));
  },

  // The message first, and that it was the last one when all of it is sent.
  async late_end() {
    const client = connect();
    const { path, requestSerialize, responseDeserialize } = ferserve.v1.EmotionService.service.ClassifyFaces;
    return new Promise((resolve) => {
      const options = { deadline: Date.now() + 20_000 };
      const call = client.makeClientStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        new grpc.Metadata(),
        options,
        (error, answer) => resolve(error ? reported(error) : scoresOf(answer)),
      );
      call.write({ packed: faces(0, 512) }, () => setTimeout(() => call.end(), 200));
    });
  },

  async stream() {
    const stream = open(connect());
    for (let id = 0; id < 60; id++) {
      stream.write(id, 1 + (id % 3));
    }
    stream.call.end();
    return stream.ended;
  },

  async long_stream() {
    const stream = open(connect());
    for (let id = 0; id < 8; id++) {
      stream.write(id, 400);
    }
    stream.call.end();
    return stream.ended;
  },

  async question_and_answer() {
    const stream = open(connect());
    for (let id = 0; id < 20; id++) {
      stream.write(id, 1);
      await stream.untilAnswered(id + 1);
    }
    stream.call.end();
    return stream.ended;
  },

  async health() {
    const client = new standard.health.v1.Health(address, credentials);
    const check = (service) =>
      new Promise((resolve) =>
        client.Check({ service }, (error, answer) => resolve(error ? reported(error) : answer.status)),
      );
    return [await check(""), await check("ferserve.v1.EmotionService"), await check("no.such.Service")];
  },

  async deadlines() {
    const client = connect();
    const stream = open(client, { deadline: Date.now() + 400 });
    stream.write(0, 1);
    const late = await classify(client, { packed: faces(0, 512) }, { deadline: Date.now() + 2 });
    return { stream: await stream.ended, late, after: await classify(client, { packed: faces(0, 1) }) };
  },

  async cancelled() {
    const client = connect();
    const streams = Array.from({ length: 20 }, () => open(client));
    for (const stream of streams) {
      stream.write(0, 1);
      await stream.untilAnswered(1);
      stream.write(1, 400);
      stream.call.cancel();
    }
    const codes = (await Promise.all(streams.map((stream) => stream.ended))).map((each) => each.code);
    const unary = await new Promise((resolve) => {
      const call = client.ClassifyFaces({ packed: faces(0, 512) }, (error) => resolve(error ? error.code : 0));
      setImmediate(() => call.cancel());
    });
    return { codes: [...new Set(codes)], unary, after: await classify(client, { packed: faces(0, 1) }) };
  },

  async errors() {
    const client = connect();
    const wrong = { packed: { ...faces(0, 1), face_count: 2 } };
    const tooLong = { packed: { pixels: Buffer.alloc(33 * 2 ** 20), face_count: 1 } };
    const stream = open(client);
    stream.write(5, 1);
    await stream.untilAnswered(1);
    stream.write(5, 1); // numbers rise
    stream.write(6, 400);
    return {
      wrong: await classify(client, wrong),
      too_long: await classify(client, tooLong),
      stream: await stream.ended,
      unknown: await askNothing(client, {}),
      after: await classify(client, { packed: faces(0, 1) }),
    };
  },

  // Each is rejected while most of its message is still on its way.
  async rejections() {
    const client = connect();
    const request = { packed: faces(0, 120) };
    const found = await Promise.all(Array.from({ length: 250 }, () => askNothing(client, request)));
    return {
      codes: [...new Set(found.map((each) => each.code))],
      after: await classify(client, { packed: faces(0, 1) }),
    };
  },

  async metadata() {
    const client = connect();
    const metadata = new grpc.Metadata();
    metadata.set("x-request-id", "of node");
    metadata.set("x-trace-bin", Buffer.from([0, 1, 254, 255]));
    const large = new grpc.Metadata();
    large.set("x-large", "y".repeat(20_000));
    return {
      taken: await classify(client, { packed: faces(0, 1) }, { metadata }),
      rejected: await classify(client, { packed: faces(0, 1) }, { metadata: large }),
      after: await classify(client, { packed: faces(0, 1) }),
    };
  },

  async idle() {
    const client = connect({
      "grpc.client_idle_timeout_ms": 1000,
      "grpc.keepalive_time_ms": 300,
      "grpc.keepalive_permit_without_calls": 1,
    });
    const states = [];
    const found = [await classify(client, { packed: faces(0, 1) })];
    await timers.setTimeout(700);
    states.push(client.getChannel().getConnectivityState(false));
    found.push(await classify(client, { packed: faces(1, 1) }));
    while (client.getChannel().getConnectivityState(false) !== grpc.connectivityState.IDLE) {
      await timers.setTimeout(50);
    }
    found.push(await classify(client, { packed: faces(2, 1) }));
    return { states, found };
  },

  // Tells when it is ready to see the server go.
  async drained() {
    const client = connect();
    const stream = open(client);
    stream.write(3, 2);
    await stream.untilAnswered(1);
    console.log("ready");
    const ended = await stream.ended;
    const after = await classify(client, { packed: faces(0, 1) }, { deadline: Date.now() + 20_000 });
    return { ended, after };
  },
};

SCENARIOS[scenario]().then(
  (found) => process.stdout.write(JSON.stringify(found) + "\n", () => process.exit(0)),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
