// The sizes and texts of gRPC's interoperability cases, and what runs them one after the other.
"use strict";

const assert = require("node:assert/strict");

const REQUEST_SIZES = [27182, 8, 1828, 45904];
const RESPONSE_SIZES = [31415, 9, 2653, 58979];
const REQUEST_BYTES = 74922;
const ODD_TEXT = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
const PATIENCE_MS = 20_000;

/** Awaits the end of a call that fails, and compares its status. */
async function fails(call, code, message) {
  const error = await call.then(
    () => assert.fail("the call did not fail"),
    (reason) => reason,
  );
  assert.equal(error.code, code, String(error));
  if (message !== undefined) {
    assert.equal(error.rawMessage ?? error.details, message);
  }
}

async function timed(run) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no end")), PATIENCE_MS);
  });
  try {
    await Promise.race([run(), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Prints, as JSON, what was wrong with each case, "" for nothing. */
async function run(cases) {
  const found = {};
  for (const [name, run] of Object.entries(cases)) {
    try {
      await timed(run);
      found[name] = "";
    } catch (error) {
      found[name] = String(error) || "failed";
    }
  }
  process.stdout.write(JSON.stringify(found) + "\n", () => process.exit(0));
}

module.exports = { ODD_TEXT, REQUEST_BYTES, REQUEST_SIZES, RESPONSE_SIZES, fails, run };
