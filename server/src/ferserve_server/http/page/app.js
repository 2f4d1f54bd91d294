// The page: takes pictures, videos and the webcam, and shows the answers of this server.

import { FrameSource, readablePicture } from "./capture.js";
import { clock } from "./expressions.js";
import { FaceCards } from "./faces.js";
import { Overlay } from "./overlay.js";
import { FrameStream, streamUrl } from "./stream.js";
import { EventList, Timeline } from "./timeline.js";

const RATE_WINDOW_MS = 2000;
const ANNOUNCE_EVERY_MS = 4000;
const TOAST_MS = 12_000;

const $ = (id) => document.getElementById(id);
const screen = $("screen");
const picture = $("picture");
const video = $("video");
const shownMedia = () => (!video.hidden ? video : !picture.hidden ? picture : null);
const overlay = new Overlay($("overlay"), shownMedia);
const cards = new FaceCards({ list: $("face-list"), empty: $("faces-empty"), ghost: $("faces-ghost"), count: $("face-count") });
const timeline = new Timeline({ canvas: $("timeline"), lanes: $("lanes"), empty: $("timeline-empty"), save: $("save") });
const events = new EventList({ list: $("event-list"), empty: $("events-empty"), announce });

let session = null; // what runs now: { kind: "picture" | "video" | "webcam", stop() }
let pictureFile = null;
let opened = 0; // counts what was opened, so that what loads late is noticed

// ------------------------------------------------------------------ what is shown beside the picture

function setState(state, text) {
  $("state").dataset.state = state;
  $("state-text").textContent = text;
}

class Rate {
  constructor(element) {
    this.element = element;
    this.times = [];
  }

  count() {
    const now = performance.now();
    this.times.push(now);
    while (this.times.length && now - this.times[0] > RATE_WINDOW_MS) this.times.shift();
  }

  write() {
    const now = performance.now();
    this.times = this.times.filter((time) => now - time <= RATE_WINDOW_MS);
    const span = this.times.length > 1 ? this.times.at(-1) - this.times[0] : 0;
    this.element.textContent = span ? String(Math.round(((this.times.length - 1) * 1000) / span)) : "–";
  }

  clear() {
    this.times = [];
    this.element.textContent = "–";
  }
}

const pictureRate = new Rate($("picture-rate"));
const answerRate = new Rate($("answer-rate"));
let latencies = [];

setInterval(() => {
  if (session?.kind === "picture" || !session) return;
  pictureRate.write();
  answerRate.write();
  if (latencies.length) $("latency").textContent = String(Math.round(median(latencies)));
  latencies = latencies.slice(-30);
}, 500);

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

let announcedAt = -Infinity;
function announce(text) {
  if (performance.now() - announcedAt < ANNOUNCE_EVERY_MS) return;
  announcedAt = performance.now();
  $("announcer").textContent = text;
}

function tell(text) {
  const toast = document.createElement("p");
  toast.className = "toast";
  const words = document.createElement("span");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.setAttribute("aria-label", "Close this message");
  close.textContent = "✕";
  close.onclick = () => toast.remove();
  toast.append(words, close);
  $("toasts").replaceChildren(toast);
  setTimeout(() => toast.remove(), TOAST_MS);
}

function showModel(model) {
  if (model) $("answered-by").textContent = `${model.name} ${model.version}`;
}

// ------------------------------------------------------------------ models

async function listModels() {
  const select = $("model");
  const chosen = select.value;
  try {
    const answer = await fetch("v1/models");
    if (!answer.ok) return;
    const { models } = await answer.json();
    const options = [new Option(`Default${defaultName(models)}`, "")];
    for (const model of models) {
      for (const version of model.versions.filter((each) => each.state === "ready")) {
        const names = Object.entries(model.aliases).filter(([, number]) => number === version.version).map(([name]) => name);
        const also = names.length ? ` (${names.join(", ")})` : "";
        options.push(new Option(`${model.name}, version ${version.version}${also}`, `${model.name}:${version.version}`));
      }
    }
    select.replaceChildren(...options);
    select.value = options.some((option) => option.value === chosen) ? chosen : "";
  } catch {
    setState("error", "No server");
  }
}

function defaultName(models) {
  const model = models.find((each) => each.default);
  return model ? ` (${model.name})` : "";
}

// ------------------------------------------------------------------ one source at a time

function begin(kind, media) {
  stop();
  opened += 1;
  screen.dataset.source = kind;
  $("welcome").hidden = true;
  picture.hidden = media !== picture;
  video.hidden = media !== video;
  $("stop").hidden = kind === "picture";
  $("mirror-field").hidden = kind !== "webcam";
  mirror(kind === "webcam" && $("mirror").checked);
  overlay.clear();
  cards.clear(kind === "picture" ? "Looking for faces…" : undefined);
  events.clear();
  for (const rate of [pictureRate, answerRate]) rate.clear();
  latencies = [];
  $("latency").textContent = "–";
}

function stop() {
  session?.stop();
  session = null;
  setState("idle", "Ready");
}

function mirror(on) {
  screen.classList.toggle("mirrored", on);
  overlay.mirrored = on;
  overlay.ask();
}

async function openPicture(file) {
  begin("picture", picture);
  pictureFile = file;
  timeline.clear(null);
  if (picture.src) URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(file);
  picture.alt = `Your picture${file.name ? `, ${file.name}` : ""}`;
  await analyzePicture();
}

async function analyzePicture() {
  const abort = new AbortController();
  const mine = { kind: "picture", stop: () => abort.abort() };
  session = mine;
  $("busy").hidden = false;
  setState("wait", "Looking…");
  const started = performance.now();
  try {
    const [name, version] = $("model").value.split(":");
    const query = new URLSearchParams(name ? { model: name, version } : {});
    const body = await readablePicture(pictureFile);
    const response = await fetch(`v1/analyze?${query}`, { method: "POST", body, headers: { "Content-Type": body.type }, signal: abort.signal });
    const answer = await response.json();
    if (session !== mine) return;
    if (!response.ok) throw new Error(answer.error);
    await picture.decode();
    const [result] = answer.results;
    $("latency").textContent = String(Math.round(performance.now() - started));
    showModel(answer.model);
    overlay.show(result, { live: false });
    cards.show(result, picture, { live: false });
    timeline.keep(result);
    const count = result.faces.length;
    announcedAt = -Infinity;
    announce(count ? `${count} ${count === 1 ? "face" : "faces"}: ${result.faces.map((face) => face.emotion ?? "no answer").join(", ")}` : "No face was found");
    setState("idle", "Ready");
  } catch (error) {
    if (session !== mine || error.name === "AbortError") return;
    cards.clear("No answer for this picture.");
    setState("error", "No answer");
    tell(error.name === "EncodingError" || error.name === "InvalidStateError" ? "This file is no picture that your browser can read." : error.message);
  } finally {
    if (session === mine) $("busy").hidden = true;
  }
}

// Streams what the video element plays until it is stopped.
function streamVideo(kind, { timeOf, onStop, length, rate }) {
  timeline.clear(length);
  let stream = null;
  let last = -1;
  // A new stream numbers its tracks from 1 again; here they go on, so that no two people share a number.
  let highest = 0;
  let offset = 0;
  const renumber = (entry) => {
    if (!entry.track_id) return;
    entry.track_id += offset;
    highest = Math.max(highest, entry.track_id);
  };
  const open = () => {
    offset = highest;
    const config = { overload_policy: "latest", tracking: $("smooth").checked };
    if ($("model").value) config.model = $("model").value;
    stream = new FrameStream(streamUrl(), config, {
      state: setState,
      ready: (message) => showModel(message.model),
      frame: (answer, roundTripMs) => {
        answerRate.count();
        if (answer.failure) return tell(answer.failure.message);
        if (answer.dropped || answer.unchanged) return;
        latencies.push(roundTripMs);
        showModel(answer.model);
        if (answer.tracks_restarted) offset = highest;
        [...answer.faces, ...answer.events].forEach(renumber);
        overlay.show(answer, { live: true });
        cards.show(answer, video, { live: true });
        timeline.add(answer);
        events.add(answer.events);
      },
      error: tell,
    });
  };
  open();
  const source = new FrameSource(video, {
    rate,
    wanted: () => stream.canSend,
    presented: (count) => {
      for (let each = 0; each < count; each += 1) pictureRate.count();
    },
    take: (blob, mediaTime) => {
      const time = timeOf(mediaTime);
      if (time < last) {
        // Wound back: tracks of later frames mean nothing here.
        stream.stop();
        open();
        timeline.rewind(time);
        events.clear();
      }
      if (time === last) return;
      last = time;
      if (stream.canSend) stream.send(blob, time);
    },
  });
  session = {
    kind,
    restart: () => {
      stream.stop();
      open();
    },
    stop: () => {
      source.stop();
      stream.stop();
      onStop();
    },
  };
}

async function openVideo(file) {
  begin("video", video);
  video.srcObject = null;
  const url = URL.createObjectURL(file);
  video.src = url;
  video.controls = true;
  video.loop = false;
  setState("wait", "Opening…");
  const mine = opened;
  try {
    await new Promise((resolve, reject) => {
      video.onloadeddata = resolve;
      video.onerror = () => reject(new Error(`Your browser cannot play ${file.name || "this video"}. Try MP4 (H.264) or WebM.`));
    });
    if (opened !== mine) return;
    const length = Number.isFinite(video.duration) ? video.duration : null;
    streamVideo("video", {
      timeOf: (mediaTime) => mediaTime,
      length,
      rate: null,
      onStop: () => {
        video.pause();
        URL.revokeObjectURL(url);
      },
    });
    await video.play();
  } catch (error) {
    if (error.name === "AbortError" || opened !== mine) return;
    setState("error", "No video");
    tell(error.message);
  }
}

async function openWebcam(deviceId) {
  if (!navigator.mediaDevices?.getUserMedia) {
    tell("Browsers give the camera only to pages over HTTPS, or at localhost. Start the server with a certificate, or open the page on its own machine.");
    return;
  }
  let media;
  try {
    media = await navigator.mediaDevices.getUserMedia({
      video: { deviceId: deviceId ? { exact: deviceId } : undefined, facingMode: "user", width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } },
      audio: false,
    });
  } catch (error) {
    tell(cameraProblem(error));
    return;
  }
  begin("webcam", video);
  video.removeAttribute("src");
  video.controls = false;
  video.srcObject = media;
  const started = performance.now();
  streamVideo("webcam", {
    timeOf: () => (performance.now() - started) / 1000,
    length: null,
    rate: media.getVideoTracks()[0].getSettings().frameRate ?? null,
    onStop: () => {
      for (const track of media.getTracks()) track.stop();
      video.srcObject = null;
      showWelcome();
    },
  });
  const running = session;
  media.getVideoTracks()[0].addEventListener("ended", () => {
    if (session !== running) return;
    stop();
    tell("The camera is gone. Plug it in and start it again.");
  });
  await video.play();
  listCameras(media.getVideoTracks()[0].getSettings().deviceId);
}

function cameraProblem(error) {
  if (error.name === "NotAllowedError") return "The browser was not allowed to use the camera. Allow it in the address bar, and start it again.";
  if (error.name === "NotFoundError" || error.name === "OverconstrainedError") return "No camera was found on this device.";
  if (error.name === "NotReadableError") return "The camera is used by another program. Close that, and start it again.";
  return `The camera cannot be used: ${error.message}`;
}

async function listCameras(current) {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
  $("camera-field").hidden = cameras.length < 2;
  $("camera").replaceChildren(...cameras.map((camera, index) => new Option(camera.label || `Camera ${index + 1}`, camera.deviceId)));
  if (current) $("camera").value = current;
}

function showWelcome() {
  screen.dataset.source = "none";
  video.hidden = picture.hidden = true;
  $("welcome").hidden = false;
  $("stop").hidden = true;
  $("mirror-field").hidden = $("camera-field").hidden = true;
  overlay.clear();
  cards.clear();
}

function openFile(file) {
  if (!file) return;
  if (file.type.startsWith("video/") || /\.(mp4|m4v|webm|mov|mkv|ogv)$/i.test(file.name)) openVideo(file);
  else openPicture(file);
}

// ------------------------------------------------------------------ controls

$("choose").onclick = () => $("file").click();
$("file").onchange = (event) => {
  openFile(event.target.files[0]);
  event.target.value = ""; // the same file can be chosen again
};
$("webcam").onclick = () => openWebcam($("camera").value);
$("camera").onchange = () => openWebcam($("camera").value);
$("stop").onclick = () => {
  stop();
  $("choose").focus();
  $("stop").hidden = true;
};
$("mirror").onchange = () => mirror($("mirror").checked);
$("landmarks").onchange = () => {
  overlay.landmarks = $("landmarks").checked;
  overlay.ask();
};
$("smooth").onchange = () => session?.restart?.();
$("model").onchange = () => {
  if (session?.kind === "picture") analyzePicture();
  else session?.restart?.();
};
$("model").onfocus = listModels;
$("save").onclick = () => {
  const url = URL.createObjectURL(new Blob([timeline.csv()], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `expressions-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
  announcedAt = -Infinity;
  announce(`Saved ${timeline.samples.length} rows up to ${clock(timeline.now)}`);
};

let dragDepth = 0;
addEventListener("dragenter", (event) => {
  event.preventDefault();
  dragDepth += 1;
  screen.classList.add("dropping");
});
addEventListener("dragleave", () => {
  dragDepth -= 1;
  if (dragDepth <= 0) screen.classList.remove("dropping");
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  dragDepth = 0;
  screen.classList.remove("dropping");
  openFile(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => openFile([...event.clipboardData.files][0]));
addEventListener("pagehide", () => stop());

listModels();
