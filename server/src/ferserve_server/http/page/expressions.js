// The seven expressions: order, colours, glyphs and words.

export const EXPRESSIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];

const styles = getComputedStyle(document.documentElement);

// Colour of an expression in the scheme that is on; unknown classes of other models are grey.
export function hueOf(emotion) {
  return styles.getPropertyValue(`--${EXPRESSIONS.includes(emotion) ? emotion : "neutral"}`).trim();
}

export function styleOf(name) {
  return styles.getPropertyValue(name).trim();
}

export function glyph(emotion) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#face-${EXPRESSIONS.includes(emotion) ? emotion : "neutral"}`);
  svg.append(use);
  return svg;
}

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function percent(share) {
  return `${Math.round(share * 100)}`;
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const minutes = Math.floor(whole / 60);
  return `${minutes}:${String(whole % 60).padStart(2, "0")}`;
}

// Names of faces: by track where there is one, else by place in the answer.
export function faceName(face, index) {
  return `Face ${face.track_id ?? index + 1}`;
}

export const calm = matchMedia("(prefers-reduced-motion: reduce)");
