// Frames of a playing <video> as small JPEGs, made only when there is credit to send one.

const MAX_SIDE_PIXELS = 640; // of the copy that is sent: the server searches a copy of this size
const QUALITY = 0.85;

// Frames between two that are sent. On a machine that is too slow for all of it the picture goes before the analysis:
// the gap doubles when frames of the picture are missing, and shrinks again by one a second.
const MAX_GAP = 8;
const ENOUGH = 0.94; // share of the camera's frames below which some are missing

export class Pace {
  // `rate`: frames a second of the source, or null where that is not known: then the best second is what it can do.
  constructor(rate) {
    this.rate = rate;
    this.best = 0;
    this.gap = 1;
    this.startedAt = null;
    this.count = 0;
    this.since = 0;
  }

  // Counts frames that were shown, `now` in milliseconds.
  shown(count, now) {
    this.startedAt ??= now;
    this.count += count;
    this.since += count;
    const elapsed = now - this.startedAt;
    if (elapsed < 1000) return;
    const rate = (this.count * 1000) / elapsed;
    this.best = Math.max(this.best, rate);
    this.gap = rate < ENOUGH * (this.rate ?? this.best) ? Math.min(MAX_GAP, this.gap * 2) : Math.max(1, this.gap - 1);
    this.startedAt = now;
    this.count = 0;
  }

  // Tells whether the next frame may be sent.
  get due() {
    return this.since >= this.gap;
  }

  sent() {
    this.since = 0;
  }
}

export class FrameSource {
  // `wanted()` tells whether a frame may be sent now; `take(blob, timeS)` sends it; `rate` is that of the source.
  constructor(video, { wanted, take, presented, rate }) {
    this.video = video;
    this.pace = new Pace(rate);
    this.before = null;
    this.wanted = wanted;
    this.take = take;
    this.presented = presented;
    this.busy = false;
    this.running = true;
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.next();
  }

  next() {
    if (!this.running) return;
    if (this.video.requestVideoFrameCallback) {
      this.handle = this.video.requestVideoFrameCallback((now, frame) => this.step(frame.mediaTime, frame.presentedFrames));
    } else {
      this.handle = requestAnimationFrame(() => this.step(this.video.currentTime, null));
    }
  }

  step(mediaTime, presentedFrames) {
    this.next();
    // A busy page gets fewer callbacks than there were frames: the counter tells how many.
    const count = presentedFrames === null || this.before === null ? 1 : presentedFrames - this.before;
    this.before = presentedFrames;
    this.presented(count);
    this.pace.shown(count, performance.now());
    if (this.busy || !this.pace.due || !this.wanted() || !this.video.videoWidth) return;
    this.busy = true;
    this.pace.sent();
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, MAX_SIDE_PIXELS / Math.max(videoWidth, videoHeight));
    const width = Math.round(videoWidth * scale);
    const height = Math.round(videoHeight * scale);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.context.drawImage(this.video, 0, 0, width, height);
    this.canvas.toBlob((blob) => {
      this.busy = false;
      if (this.running && blob && this.wanted()) this.take(blob, mediaTime);
    }, "image/jpeg", QUALITY);
  }

  stop() {
    this.running = false;
    if (this.video.cancelVideoFrameCallback) this.video.cancelVideoFrameCallback(this.handle);
    else cancelAnimationFrame(this.handle);
  }
}

// A picture in a form that the server reads: as it is, or made a JPEG by the browser where it knows more formats.
export async function readablePicture(file) {
  if (["image/jpeg", "image/png", "image/webp"].includes(file.type)) return file;
  const bitmap = await createImageBitmap(file);
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}
