// Samples of every track over time: drawn as lanes, listed as events, saved as CSV.

import { EXPRESSIONS, calm, clock, glyph, hueOf, make, styleOf } from "./expressions.js";

const LIVE_WINDOW_S = 60;
const LANE = 34;
const AXIS = 24;
const GUTTER = 64;
const MAX_LANES = 8;
const MAX_SAMPLES = 200_000; // about two hours of two faces at 15 answers a second
const MAX_EVENTS = 200;
const TEXT_MOVING = "One row for each person, coloured by expression; the higher the colour, the surer the model.";
const TEXT_PICTURE = "A picture is one moment. Its faces can be saved as CSV; a video or the webcam gets a timeline.";
const GAP_S = 1; // longer pauses between two samples are not filled

export class Timeline {
  constructor({ canvas, lanes, empty, save }) {
    this.canvas = canvas;
    this.lanesBox = lanes;
    this.empty = empty;
    this.save = save;
    this.clear(null);
    new ResizeObserver(() => this.ask()).observe(lanes);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.ask());
  }

  // `length` of a recorded video in seconds, or null for live ones.
  clear(length) {
    this.samples = [];
    this.tracks = new Map();
    this.length = length;
    this.now = 0;
    this.saidAt = -Infinity;
    this.lanesBox.hidden = true;
    this.empty.hidden = false;
    this.empty.textContent = TEXT_MOVING;
    this.save.disabled = true;
  }

  // Keeps the faces of a picture, for the CSV: one moment needs no lanes.
  keep(answer) {
    this.clear(null);
    this.empty.textContent = TEXT_PICTURE;
    this.record({ ...answer, time_s: 0 });
    this.save.disabled = !this.samples.length;
  }

  add(answer) {
    this.record(answer);
    if (!this.samples.length) return;
    this.save.disabled = false;
    this.empty.hidden = true;
    this.lanesBox.hidden = false;
    this.ask();
  }

  record(answer) {
    this.now = answer.time_s ?? 0;
    (answer.faces ?? []).forEach((face, index) => {
      if (face.failure) return;
      const id = face.track_id ?? index + 1;
      const sample = { time: this.now, id, face };
      this.samples.push(sample);
      if (!this.tracks.has(id)) this.tracks.set(id, []);
      this.tracks.get(id).push(sample);
    });
    while (this.samples.length > MAX_SAMPLES) {
      const oldest = this.samples.shift();
      const track = this.tracks.get(oldest.id);
      track.shift();
      if (!track.length) this.tracks.delete(oldest.id);
    }
  }

  // Forgets what lies at or after a time, for a video that was wound back.
  rewind(time) {
    this.samples = this.samples.filter((sample) => sample.time < time);
    for (const [id, track] of this.tracks) {
      const kept = track.filter((sample) => sample.time < time);
      if (kept.length) this.tracks.set(id, kept);
      else this.tracks.delete(id);
    }
  }

  ask() {
    if (this.waiting || this.lanesBox.hidden) return;
    this.waiting = true;
    setTimeout(() => requestAnimationFrame(() => this.draw()), calm.matches ? 500 : 100);
  }

  draw() {
    this.waiting = false;
    const end = this.length ?? Math.max(this.now, LIVE_WINDOW_S / 6);
    const start = this.length ? 0 : Math.max(0, end - LIVE_WINDOW_S);
    const shown = [...this.tracks].filter(([, track]) => track.at(-1).time >= start).slice(-MAX_LANES);
    const scale = Math.min(2, devicePixelRatio || 1);
    const width = this.lanesBox.clientWidth;
    const height = shown.length * LANE + AXIS;
    if (!width) return;
    Object.assign(this.canvas, { width: width * scale, height: height * scale });
    this.canvas.style.setProperty("height", `${height}px`);
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const family = getComputedStyle(document.body).fontFamily;
    const at = (time) => GUTTER + ((time - start) / (end - start)) * (width - GUTTER - 4);
    this.drawAxis(context, start, end, at, height, family);
    shown.forEach(([id, track], row) => {
      const top = row * LANE;
      context.fillStyle = styleOf("--sunken");
      context.beginPath();
      context.roundRect(GUTTER, top + 4, width - GUTTER - 4, LANE - 8, 6);
      context.fill();
      context.fillStyle = styleOf("--ink");
      context.font = `500 13px ${family}`;
      context.textBaseline = "middle";
      context.fillText(`Face ${id}`, 0, top + LANE / 2);
      this.drawTrack(context, track, start, at, top, width);
    });
    if (this.length) {
      context.fillStyle = styleOf("--accent");
      context.fillRect(at(Math.min(this.now, end)) - 1, 0, 2, height - AXIS);
    }
    this.describe(shown);
  }

  drawTrack(context, track, start, at, top, width) {
    context.save();
    context.beginPath();
    context.roundRect(GUTTER, top + 4, width - GUTTER - 4, LANE - 8, 6);
    context.clip();
    for (let index = 0; index < track.length; index += 1) {
      const { time, face } = track[index];
      const next = track[index + 1]?.time ?? time + 0.12;
      if (next < start) continue;
      const left = at(Math.max(time, start));
      const tall = (LANE - 8) * (0.25 + 0.75 * face.confidence);
      context.fillStyle = hueOf(face.emotion);
      context.globalAlpha = face.uncertain ? 0.45 : 1;
      context.fillRect(left, top + LANE - 4 - tall, at(Math.min(next, time + GAP_S)) - left + 0.6, tall);
    }
    context.restore();
  }

  drawAxis(context, start, end, at, height, family) {
    const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600].find((each) => (end - start) / each <= 8) ?? 7200;
    context.font = `12px ${family}`;
    context.fillStyle = styleOf("--muted");
    context.textBaseline = "alphabetic";
    for (let time = Math.ceil(start / step) * step; time <= end; time += step) {
      const text = clock(time);
      const room = context.measureText(text).width;
      context.fillText(text, Math.min(at(time) - (time === start ? 0 : room / 2), at(end) - room), height - 6);
    }
  }

  // The same in words, for those who do not see the picture.
  describe(shown) {
    if (performance.now() - this.saidAt < 3000) return;
    this.saidAt = performance.now();
    const texts = shown.map(([id, track]) => {
      const counts = new Map();
      for (const { face } of track) counts.set(face.emotion, (counts.get(face.emotion) ?? 0) + 1);
      const parts = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 3);
      return `face ${id}: ${parts.map(([name, count]) => `${name} ${Math.round((count / track.length) * 100)} %`).join(", ")}`;
    });
    this.canvas.setAttribute("aria-label", `Timeline of expressions. ${texts.join("; ")}`);
  }

  csv() {
    const labels = this.samples.length ? Object.keys(this.samples[0].face.scores) : EXPRESSIONS;
    const head = ["time_s", "track_id", "left", "top", "width", "height", "score", "emotion", "confidence", "uncertain", ...labels];
    const rows = this.samples.map(({ time, id, face }) => [
      time.toFixed(3), id, face.box.left, face.box.top, face.box.width, face.box.height, face.score ?? "",
      face.emotion, face.confidence, face.uncertain ?? false, ...labels.map((label) => face.scores[label] ?? ""),
    ]);
    return [head, ...rows].map((row) => row.join(",")).join("\r\n") + "\r\n";
  }
}

export class EventList {
  constructor({ list, empty, announce }) {
    this.list = list;
    this.empty = empty;
    this.announce = announce;
    this.clear();
  }

  clear() {
    this.list.replaceChildren();
    this.list.hidden = true;
    this.empty.hidden = false;
    this.before = new Map();
  }

  add(events = []) {
    for (const event of events) {
      const text = this.describe(event);
      const item = make("li", EXPRESSIONS.includes(event.emotion) ? event.emotion : "neutral");
      item.append(make("time", "", clock(event.time_s)), glyph(event.emotion), make("span", "", text));
      this.list.prepend(item);
      this.list.hidden = false;
      this.empty.hidden = true;
      this.announce(text);
    }
    while (this.list.children.length > MAX_EVENTS) this.list.lastChild.remove();
  }

  describe({ event, track_id: id, emotion, duration_s: lasted }) {
    const before = this.before.get(id);
    if (event === "left") {
      this.before.delete(id);
      return `Face ${id} left after ${lasted.toFixed(1)} s, mostly ${emotion}`;
    }
    this.before.set(id, emotion);
    if (event === "appeared") return `Face ${id} appeared, ${emotion}`;
    return `Face ${id}: ${before ? `${before} for ${lasted.toFixed(1)} s, now ` : "now "}${emotion}`;
  }
}
