// Makes the screenshots of the page: node screenshots.mjs URL MEDIA-FOLDER PICTURE OUTPUT-FOLDER

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { drop, startChromium } from "./chromium.mjs";

const [url, media, picture, output] = process.argv.slice(2);
const SIZES = { 1280: { width: 1280, height: 900 }, 390: { width: 390, height: 844 } };
// With ALL_SCREENSHOTS every state is taken at both sizes in both schemes; the docs show these.
const SHOWN = ["start-1280-light", "picture-1280-light", "picture-390-dark", "webcam-1280-dark", "webcam-390-light"];

const browser = await startChromium(join(media, "camera.y4m"));
for (const colorScheme of ["light", "dark"]) {
  for (const viewport of Object.values(SIZES)) {
    const wants = (what) => process.env.ALL_SCREENSHOTS || SHOWN.includes(`${what}-${viewport.width}-${colorScheme}`);
    if (!["start", "picture", "webcam"].some(wants)) continue;
    const context = await browser.newContext({ viewport, colorScheme, permissions: ["camera"] });
    const page = await context.newPage();
    const take = async (what) => {
      const path = join(output, `page-${what}-${viewport.width}-${colorScheme}.jpg`);
      if (wants(what)) await page.screenshot({ path, fullPage: true, type: "jpeg", quality: 88 });
    };
    page.on("pageerror", (error) => console.error(error));
    await page.goto(url);
    await page.waitForFunction(() => document.querySelectorAll("#model option").length > 1);
    await take("start");
    await drop(page, { name: "portrait.jpg", type: "image/jpeg", body: await readFile(picture) });
    await page.waitForSelector("#face-list li");
    await page.waitForTimeout(400); // bars glide
    await take("picture");
    if (wants("webcam")) {
      await page.click("#webcam");
      await page.waitForSelector("#event-list li");
      await page.waitForTimeout(8000); // the timeline fills
      await take("webcam");
    }
    await context.close();
  }
}
await browser.close();
