// The picture goes before the analysis: rules of the pace, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Pace } from "../../server/src/ferserve_server/http/page/capture.js";

// Shows `rate` frames a second for some seconds, sending whatever may be sent; returns how many were.
function run(pace, rate, seconds, from = 0) {
  let sent = 0;
  for (let frame = 0; frame < rate * seconds; frame += 1) {
    pace.shown(1, from + (frame * 1000) / rate);
    if (pace.due) {
      pace.sent();
      sent += 1;
    }
  }
  return sent;
}

test("every frame is sent while the picture is whole", () => {
  assert.equal(run(new Pace(30), 30, 10), 300);
});

test("fewer are sent while frames of the picture are missing, and never none", () => {
  const pace = new Pace(30);
  const sent = run(pace, 20, 10);
  assert.ok(sent < 80, `${sent}`);
  assert.equal(pace.gap, 8);
  assert.ok(run(pace, 20, 10, 10_000) >= 20);
});

test("the gap closes when the picture is whole again", () => {
  const pace = new Pace(30);
  run(pace, 20, 10);
  run(pace, 30, 10, 10_000);
  assert.equal(pace.gap, 1);
});

test("without a known rate the best second counts", () => {
  const pace = new Pace(null);
  run(pace, 60, 3);
  assert.equal(pace.gap, 1);
  run(pace, 30, 3, 3000);
  assert.ok(pace.gap > 1);
});
