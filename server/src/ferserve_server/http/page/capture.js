// Frames of a playing <video> as small JPEGs, made only when there is credit to send one.

const LONGEST_SIDE = 640; // of the copy that is sent: the server searches a copy of this size
const QUALITY = 0.85;

export class FrameSource {
  // `wanted()` tells whether a frame may be sent now; `take(blob, timeS)` sends it.
  constructor(video, { wanted, take, presented }) {
    this.video = video;
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
    this.presented(mediaTime, presentedFrames);
    if (this.busy || !this.wanted() || !this.video.videoWidth) return;
    this.busy = true;
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, LONGEST_SIDE / Math.max(videoWidth, videoHeight));
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
