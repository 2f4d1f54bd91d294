// Boxes over the picture. They are drawn by the browser's own frames, so the picture never waits for an answer.

import { calm, faceName, hueOf } from "./expressions.js";

const GLIDE_MS = 90; // time in which a box covers two thirds of its way
const STALE_MS = 1500; // boxes fade when no answer came for this long

export class Overlay {
  constructor(canvas, media) {
    this.canvas = canvas;
    this.media = media; // () => the element shown, or null
    this.context = canvas.getContext("2d");
    this.boxes = new Map();
    this.landmarks = false;
    this.mirrored = false;
    this.live = false;
    this.frame = 0;
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  resize() {
    const scale = Math.min(2, devicePixelRatio || 1);
    this.canvas.width = Math.round(this.canvas.clientWidth * scale);
    this.canvas.height = Math.round(this.canvas.clientHeight * scale);
    this.scale = scale;
    this.ask();
  }

  show(answer, { live }) {
    this.live = live;
    this.shownAt = performance.now();
    const found = new Map();
    answer.faces.forEach((face, index) => {
      const key = face.track_id ?? `index-${index}`;
      const target = {
        left: face.box.left / answer.width, top: face.box.top / answer.height,
        width: face.box.width / answer.width, height: face.box.height / answer.height,
      };
      const points = Object.values(face.landmarks ?? {}).map(([x, y]) => [x / answer.width, y / answer.height]);
      const now = live && !calm.matches ? this.boxes.get(key)?.now : undefined;
      found.set(key, { target, now: now ?? { ...target }, face, points, name: faceName(face, index) });
    });
    this.boxes = found;
    this.ask();
  }

  clear() {
    this.boxes.clear();
    this.ask();
  }

  ask() {
    if (!this.frame) this.frame = requestAnimationFrame((at) => this.draw(at));
  }

  draw(at) {
    this.frame = 0;
    const { context, canvas, scale } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    const media = this.media();
    const width = media?.videoWidth || media?.naturalWidth;
    const height = media?.videoHeight || media?.naturalHeight;
    if (!width || !this.boxes.size) return;
    const fit = Math.min(canvas.width / width, canvas.height / height);
    const place = { x: (canvas.width - width * fit) / 2, y: (canvas.height - height * fit) / 2, w: width * fit, h: height * fit };
    const age = at - this.shownAt;
    context.globalAlpha = this.live && age > STALE_MS ? Math.max(0.15, 1 - (age - STALE_MS) / 1000) : 1;
    const step = this.live ? 1 - Math.exp(-Math.min(100, at - (this.drawnAt ?? at)) / GLIDE_MS) : 1;
    this.drawnAt = at;
    let moving = false;
    for (const box of this.boxes.values()) {
      for (const side of ["left", "top", "width", "height"]) {
        const rest = box.target[side] - box.now[side];
        if (Math.abs(rest) < 0.0005) box.now[side] = box.target[side];
        else {
          box.now[side] += rest * step;
          moving = true;
        }
      }
      this.drawBox(box, place, scale);
    }
    if (moving || (this.live && age < STALE_MS + 1000)) this.ask();
  }

  drawBox({ now, face, points, name }, place, scale) {
    const { context } = this;
    const left = this.mirrored ? 1 - now.left - now.width : now.left;
    const x = place.x + left * place.w;
    const y = place.y + now.top * place.h;
    const w = now.width * place.w;
    const h = now.height * place.h;
    const unsure = face.uncertain || face.failure || face.not_a_face;
    const hue = face.failure ? "#ffffff" : hueOf(face.emotion);
    const radius = Math.min(w, h) * 0.16;
    context.lineWidth = 3 * scale;
    context.setLineDash(unsure ? [8 * scale, 6 * scale] : []);
    context.strokeStyle = "rgb(0 0 0 / 45%)";
    context.beginPath();
    context.roundRect(x, y, w, h, radius);
    context.lineWidth = 5.5 * scale;
    context.stroke();
    context.strokeStyle = hue;
    context.lineWidth = 3 * scale;
    context.stroke();
    context.setLineDash([]);
    if (this.landmarks) {
      context.fillStyle = hue;
      for (const [px, py] of points) {
        context.beginPath();
        context.arc(place.x + (this.mirrored ? 1 - px : px) * place.w, place.y + py * place.h, 3 * scale, 0, 7);
        context.fill();
      }
    }
    this.drawLabel(face, name, x, y, w, h, hue, scale);
  }

  drawLabel(face, name, x, y, w, h, hue, scale) {
    const { context, canvas } = this;
    const size = Math.max(13, Math.min(17, canvas.width / scale / 46)) * scale;
    let text = face.failure ? "no answer" : face.not_a_face ? "not a face" : face.uncertain ? `${face.emotion}?` : face.emotion;
    if (w > 90 * scale && !face.failure) text += ` ${Math.round(face.confidence * 100)} %`;
    if (face.track_id) text = `${face.track_id} · ${text}`;
    context.font = `600 ${size}px ${getComputedStyle(document.body).fontFamily}`;
    const pad = size * 0.55;
    const width = context.measureText(text).width + pad * 2 + 5 * scale;
    const height = size * 1.75;
    const left = Math.max(2 * scale, Math.min(x, canvas.width - width - 2 * scale));
    let top = y - height - 5 * scale;
    if (top < 2 * scale) top = Math.min(y + h + 5 * scale, canvas.height - height - 2 * scale);
    context.fillStyle = "rgb(18 16 13 / 84%)";
    context.beginPath();
    context.roundRect(left, top, width, height, height * 0.32);
    context.fill();
    context.fillStyle = hue;
    context.beginPath();
    context.roundRect(left + 5 * scale, top + height * 0.24, 4 * scale, height * 0.52, 2 * scale);
    context.fill();
    context.fillStyle = "#fff";
    context.textBaseline = "middle";
    context.fillText(text, left + pad + 5 * scale, top + height / 2 + scale * 0.5);
  }
}
