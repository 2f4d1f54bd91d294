// One card for each face: a small copy of it, the word, and bars of all probabilities.

import { EXPRESSIONS, faceName, glyph, make, percent } from "./expressions.js";

const MAX_CARDS = 12;
const TEXT_EVERY_MS = 140; // numbers that change faster cannot be read

export class FaceCards {
  constructor({ list, empty, ghost, count }) {
    this.list = list;
    this.empty = empty;
    this.ghost = ghost;
    this.count = count;
    this.cards = new Map();
  }

  // Shows the faces of an answer; `media` is what they are cut from, for the small copies.
  show(answer, media, { live }) {
    const shown = answer.faces.slice(0, MAX_CARDS);
    const total = answer.faces.length + (answer.omitted_face_count ?? 0);
    this.empty.hidden = total > 0;
    this.ghost.hidden = true;
    if (!total) this.empty.textContent = live ? "No face in the picture right now." : "No face was found in this picture.";
    const word = total === 1 ? "face" : "faces";
    this.count.textContent = total > shown.length ? `${shown.length} of ${total} ${word}` : total ? `${total} ${word}` : "";
    const kept = new Set();
    shown.forEach((face, index) => {
      const key = face.track_id ?? `index-${index}`;
      kept.add(key);
      let card = this.cards.get(key);
      if (!card) {
        card = new FaceCard();
        this.cards.set(key, card);
        this.list.append(card.element);
      }
      card.show(face, faceName(face, index), media, answer, live);
    });
    for (const [key, card] of this.cards) {
      if (kept.has(key)) continue;
      card.element.remove();
      this.cards.delete(key);
    }
  }

  clear(text) {
    for (const card of this.cards.values()) card.element.remove();
    this.cards.clear();
    this.count.textContent = "";
    this.empty.textContent = text ?? "Bars of the seven probabilities appear here, one set for each face.";
    this.empty.hidden = false;
    this.ghost.hidden = false;
  }
}

class FaceCard {
  constructor() {
    this.element = make("li");
    const head = make("div", "face-head");
    this.copy = make("canvas");
    this.copy.width = this.copy.height = 124;
    this.copy.setAttribute("aria-hidden", "true");
    this.word = make("h3", "face-word");
    this.sure = make("p", "face-sure");
    this.note = make("p", "face-note");
    head.append(this.copy, this.word, this.sure, this.note);
    this.bars = make("ul", "bars");
    this.element.append(head, this.bars);
    this.rows = new Map();
    this.textAt = -Infinity;
  }

  show(face, name, media, answer, live) {
    const now = performance.now();
    if (face.failure) {
      this.write("", name, "", face.failure.message);
      this.bars.replaceChildren();
      this.rows.clear();
      return;
    }
    const readable = !live || now - this.textAt >= TEXT_EVERY_MS;
    const ordered = Object.keys(face.scores);
    if (!ordered.every((label) => this.rows.has(label))) this.build(ordered);
    for (const label of ordered) {
      const row = this.rows.get(label);
      row.fill.style.setProperty("--share", face.scores[label]);
      row.element.classList.toggle("best", label === face.emotion);
      if (readable) row.share.textContent = `${percent(face.scores[label])} %`;
    }
    if (!readable) return;
    this.textAt = now;
    const note = face.not_a_face ? "probably not a face" : face.uncertain ? "not sure" : "";
    this.write(face.emotion, name, percent(face.confidence), note);
    this.draw(face.box, media, answer);
  }

  build(labels) {
    this.rows.clear();
    this.bars.replaceChildren(...labels.map((label) => {
      const element = make("li", EXPRESSIONS.includes(label) ? label : "neutral");
      const track = make("span", "track");
      track.setAttribute("aria-hidden", "true");
      const fill = make("i");
      track.append(fill);
      const share = make("span", "share");
      element.append(make("span", "", label), track, share);
      this.rows.set(label, { element, fill, share });
      return element;
    }));
  }

  write(emotion, name, sure, note) {
    if (this.emotion !== emotion) {
      this.emotion = emotion;
      this.word.className = `face-word ${emotion}`;
      this.word.replaceChildren(...(emotion ? [glyph(emotion), emotion] : ["no answer"]));
    }
    if (sure) this.sure.replaceChildren(sure, make("small", "", "%"));
    else this.sure.replaceChildren();
    this.note.textContent = note ? `${name} · ${note}` : name;
  }

  draw(box, media, answer) {
    const width = media?.videoWidth || media?.naturalWidth;
    const height = media?.videoHeight || media?.naturalHeight;
    if (!width) return;
    const side = Math.max((box.width / answer.width) * width, (box.height / answer.height) * height) * 1.25;
    const x = ((box.left + box.width / 2) / answer.width) * width - side / 2;
    const y = ((box.top + box.height / 2) / answer.height) * height - side / 2;
    const context = this.copy.getContext("2d");
    context.clearRect(0, 0, 124, 124);
    context.drawImage(media, x, y, side, side, 0, 0, 124, 124);
  }
}
