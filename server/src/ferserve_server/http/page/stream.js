// WebSocket client of /v1/stream: keeps to its credit, measures, connects again and resumes.

const HEADER_BYTES = 16;
const FIRST_WAIT_MS = 400;
const MAX_WAIT_MS = 8000;
const CLOSE_NORMAL = 1000;
const CLOSE_POLICY = 1008; // the request is wrong: trying again cannot help

export class FrameStream {
  // `on` has functions: state(name, detail), frame(answer, roundTripMs), error(error).
  constructor(url, config, on) {
    this.url = url;
    this.config = config;
    this.on = on;
    this.sequence = 0;
    this.lastAnswered = -1;
    this.credit = 0;
    this.waiting = new Map(); // sequence_id -> time of sending
    this.tries = 0;
    this.stopped = false;
    this.fatal = null;
    this.connect();
  }

  get canSend() {
    return this.socket?.readyState === WebSocket.OPEN && this.waiting.size < this.credit;
  }

  connect() {
    this.on.state("wait", this.tries ? "Connecting again…" : "Connecting…");
    const socket = new WebSocket(this.url, "ferserve.stream.v1");
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      const config = { ...this.config };
      if (this.lastAnswered >= 0) config.resumed_after_sequence_id = this.lastAnswered;
      socket.send(JSON.stringify(config));
    };
    socket.onmessage = (message) => this.take(JSON.parse(message.data));
    socket.onclose = (closed) => this.lost(closed);
  }

  take(message) {
    if (message.type === "ready") {
      this.credit = message.credit;
      this.tries = 0;
      this.on.state("live", "Live");
      this.on.ready?.(message);
    } else if (message.type === "frame") {
      const sentAt = this.waiting.get(message.sequence_id);
      this.waiting.delete(message.sequence_id);
      this.lastAnswered = message.sequence_id;
      this.on.frame(message, performance.now() - sentAt);
    } else if (message.type === "error") {
      this.fatal = message;
    }
  }

  lost(closed) {
    this.credit = 0;
    this.waiting.clear();
    if (this.stopped) return;
    if (closed.code === CLOSE_POLICY || closed.code === CLOSE_NORMAL) {
      this.stopped = true;
      this.on.state("error", "Stopped");
      this.on.error(this.fatal?.message ?? "The server closed the stream.");
      return;
    }
    this.fatal = null;
    const wait = Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** this.tries) * (0.75 + Math.random() / 2);
    this.tries += 1;
    this.on.state("wait", "Connecting again…");
    this.timer = setTimeout(() => this.stopped || this.connect(), wait);
  }

  send(picture, timeS) {
    const header = new DataView(new ArrayBuffer(HEADER_BYTES));
    header.setBigInt64(0, BigInt(this.sequence));
    header.setFloat64(8, timeS);
    this.waiting.set(this.sequence, performance.now());
    this.sequence += 1;
    this.socket.send(new Blob([header.buffer, picture]));
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    this.socket.close(CLOSE_NORMAL);
  }
}

// URL of the stream beside the page, whatever path the page has behind a proxy.
export function streamUrl() {
  const url = new URL("v1/stream", document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}
