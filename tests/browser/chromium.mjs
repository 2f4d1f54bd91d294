// Starts Debian's Chromium for tests and screenshots of the page.

import { chromium } from "playwright-core";

// Without the last four Chromium asks hosts of its maker for updates at every start.
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--autoplay-policy=no-user-gesture-required",
  "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
];

// `camera`: a .y4m file that plays as the webcam.
export function startChromium(camera) {
  const fake = camera
    ? ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", `--use-file-for-fake-video-capture=${camera}`]
    : [];
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: [...FLAGS, ...fake] });
}

// Drops a file onto the page, as a hand does.
export async function drop(page, { name, type, body }) {
  const data = await page.evaluateHandle(
    ([fileName, fileType, base64]) => {
      const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], fileName, { type: fileType }));
      return transfer;
    },
    [name, type, body.toString("base64")],
  );
  for (const event of ["dragenter", "dragover", "drop"]) await page.dispatchEvent("#screen", event, { dataTransfer: data });
}
