// Drives the page in Chromium and writes what it saw as JSON: node page.mjs URL MEDIA-FOLDER PICTURE

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { drop, startChromium } from "./chromium.mjs";

const [url, media, picturePath] = process.argv.slice(2);
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const picture = await readFile(picturePath);
const CAMERA_S = 10;
const BASELINE_S = 4;

const browser = await startChromium(join(media, "camera.y4m"));
const report = {};

// Runs one scenario on a page of its own; a scenario that breaks is reported by its error.
async function scenario(name, options, run) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, permissions: ["camera"], ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const noise = [];
  const hosts = new Set();
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && noise.push(message.text()));
  page.on("pageerror", (error) => noise.push(String(error)));
  page.on("request", (request) => hosts.add(new URL(request.url()).host));
  const seen = { noise };
  try {
    await page.goto(url);
    await page.waitForFunction(() => document.querySelectorAll("#model option").length > 1);
    Object.assign(seen, await run(page));
  } catch (error) {
    seen.error = String(error.stack);
  }
  seen.hosts = [...hosts].filter(Boolean);
  report[name] = seen;
  await context.close();
}

async function accessibility(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
  return violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map((node) => node.target).join(" ")}`);
}

// What the cards say of each face.
const cards = (page) => page.$$eval("#face-list > li", (items) => items.map((item) => ({
  emotion: item.querySelector(".face-word").textContent,
  sure: Number.parseInt(item.querySelector(".face-sure").textContent, 10),
  shares: Object.fromEntries([...item.querySelectorAll(".bars li")].map((row) =>
    [row.firstChild.textContent, Number.parseFloat(row.querySelector("i").style.getPropertyValue("--share"))])),
})));

const paintedPixels = (page, id) => page.$eval(id, (canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let index = 3; index < data.length; index += 4) count += data[index] > 0 ? 1 : 0;
  return count;
});

const showsNoSideways = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);

async function savedCsv(page) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  return { name: download.suggestedFilename(), text: await readFile(await download.path(), "utf8") };
}

await scenario("picture", {}, async (page) => {
  const start = { axe: await accessibility(page), state: await page.textContent("#state-text") };
  await drop(page, { name: "portrait.jpg", type: "image/jpeg", body: picture });
  await page.waitForSelector("#face-list li");
  await page.waitForFunction(() => document.querySelector("#state-text").textContent === "Ready");
  return {
    start, cards: await cards(page), painted: await paintedPixels(page, "#overlay"), axe: await accessibility(page),
    said: await page.textContent("#announcer"), by: await page.textContent("#answered-by"), csv: await savedCsv(page),
    note: await page.textContent(".notes"),
  };
});

await scenario("pasted", {}, async (page) => {
  await page.evaluate((base64) => {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], "image.png", { type: "image/png" }));
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
  }, picture.toString("base64"));
  await page.waitForSelector("#face-list li");
  return { cards: await cards(page) };
});

await scenario("broken", {}, async (page) => {
  await drop(page, { name: "notes.jpg", type: "image/jpeg", body: Buffer.from("no picture at all") });
  await page.waitForSelector(".toast");
  return { toast: await page.textContent(".toast span"), state: await page.textContent("#state-text") };
});

await scenario("keyboard", {}, async (page) => {
  // Playwright takes the choice over from the moment of the first listener on; the key must not come before it.
  const chosen = page.waitForEvent("filechooser");
  const order = [];
  for (let press = 0; press < 8; press += 1) {
    await page.keyboard.press("Tab");
    order.push(await page.evaluate(() => document.activeElement.id || document.activeElement.className));
  }
  await page.focus("#choose");
  await page.keyboard.press("Enter");
  await (await chosen).setFiles(picturePath);
  await page.waitForSelector("#face-list li");
  return { order, cards: await cards(page) };
});

await scenario("phone", { viewport: { width: 390, height: 844 }, colorScheme: "dark", reducedMotion: "reduce", hasTouch: true }, async (page) => {
  const fits = [await showsNoSideways(page)];
  await drop(page, { name: "portrait.jpg", type: "image/jpeg", body: picture });
  await page.waitForSelector("#face-list li");
  fits.push(await showsNoSideways(page));
  const smallest = await page.$$eval("button:not([hidden]), select", (all) =>
    Math.min(...all.filter((each) => each.offsetParent).map((each) => each.getBoundingClientRect().height)));
  const paper = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  return { fits, smallest, paper, axe: await accessibility(page) };
});

await scenario("video", {}, async (page) => {
  await page.setInputFiles("#file", join(media, "portrait.webm"));
  await page.waitForSelector("#event-list li", { timeout: 30_000 });
  await page.waitForFunction(() => document.querySelector("#video").ended, null, { timeout: 30_000 });
  await page.waitForTimeout(700); // the timeline is drawn a few times a second
  return {
    events: await page.$$eval("#event-list li", (items) => items.map((item) => item.textContent)),
    lanes: await paintedPixels(page, "#timeline"), timeline: await page.getAttribute("#timeline", "aria-label"),
    csv: await savedCsv(page), cards: await cards(page), rate: await page.textContent("#answer-rate"), axe: await accessibility(page),
  };
});

await scenario("webcam", {}, async (page) => {
  // Frames that the video element showed, second by second; the page itself is not asked.
  const shown = (seconds) => page.evaluate((length) => new Promise((resolve) => {
    const video = document.querySelector("#video");
    const counts = [];
    let first = null;
    const step = (now, { presentedFrames }) => {
      first ??= { now, presentedFrames };
      const second = Math.floor((now - first.now) / 1000);
      if (second >= length) return resolve(counts.map((count, index) => count - (counts[index - 1] ?? first.presentedFrames)));
      counts[second] = presentedFrames;
      video.requestVideoFrameCallback(step);
    };
    video.requestVideoFrameCallback(step);
  }), seconds);

  // The stream is held first: the picture without any analysis is what the picture with it is compared with.
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  let sent = 0;
  await page.routeWebSocket(/v1\/stream/, (client) => {
    const server = client.connectToServer();
    client.onMessage((message) => {
      if (typeof message !== "string") sent += 1;
      server.send(message);
    });
    server.onMessage(async (message) => {
      await held;
      client.send(message);
    });
  });
  await page.click("#webcam");
  await page.waitForFunction(() => document.querySelector("#video").videoWidth > 0);
  const cameraRate = await page.evaluate(() => document.querySelector("#video").srcObject.getVideoTracks()[0].getSettings().frameRate);
  await shown(1); // the camera starts
  const alone = await shown(BASELINE_S);
  release();
  await page.waitForSelector("#event-list li", { timeout: 30_000 });
  const perSecond = await shown(CAMERA_S);
  const seen = {
    cameraRate, alone, perSecond, sent, state: await page.textContent("#state-text"), rate: await page.textContent("#answer-rate"),
    pictureRate: await page.textContent("#picture-rate"), latency: await page.textContent("#latency"), cards: await cards(page),
    painted: await paintedPixels(page, "#overlay"), axe: await accessibility(page),
  };
  await page.click("#stop");
  await page.waitForFunction(() => document.querySelector("#video").srcObject === null);
  await page.waitForTimeout(200); // a frame may be on its way
  const after = sent;
  await page.waitForTimeout(500);
  return { ...seen, sentAfterStop: sent - after, welcome: await page.isVisible("#welcome") };
});

await scenario("restarted", {}, async (page) => {
  // The first stream is cut as a server that restarts cuts it.
  const configs = [];
  const sequences = [];
  await page.routeWebSocket(/v1\/stream/, (client) => {
    const server = client.connectToServer();
    const number = configs.length;
    configs.push(null);
    let answers = 0;
    let cut = false;
    client.onMessage((message) => {
      if (cut) return;
      if (typeof message === "string") configs[number] = JSON.parse(message);
      else sequences.push(Number(message.readBigInt64BE(0)));
      server.send(message);
    });
    server.onMessage((message) => {
      if (cut) return;
      client.send(message);
      if (JSON.parse(message).type === "frame") answers += 1;
      if (number === 0 && answers === 3) {
        cut = true;
        server.close();
        client.close({ code: 1012, reason: "restart" });
      }
    });
  });
  await page.click("#webcam");
  await page.waitForFunction(() => document.querySelector("#state-text").textContent.includes("again"));
  const playing = await page.$eval("#video", (video) => !video.paused);
  await page.waitForFunction(() => document.querySelector("#state-text").textContent === "Live");
  await page.waitForTimeout(1500);
  return { configs, sequences, playing, state: await page.textContent("#state-text") };
});

await scenario("models", {}, async (page) => {
  const options = await page.$$eval("#model option", (all) => all.map((each) => each.textContent));
  await drop(page, { name: "portrait.jpg", type: "image/jpeg", body: picture });
  await page.waitForSelector("#face-list li");
  await page.selectOption("#model", { index: 1 });
  await page.waitForFunction(() => document.querySelector("#state-text").textContent === "Ready");
  return { options, by: await page.textContent("#answered-by") };
});

await browser.close();
console.log(JSON.stringify(report));
