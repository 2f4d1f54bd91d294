// Makes the screenshots of the page: node screenshots.mjs URL MEDIA-FOLDER PICTURE OUTPUT-FOLDER

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { drop, startChromium } from "./chromium.mjs";

const [url, media, picture, output] = process.argv.slice(2);
const SIZES = [{ width: 1280, height: 900 }, { width: 390, height: 844 }];

const browser = await startChromium(join(media, "camera.y4m"));
for (const colorScheme of ["light", "dark"]) {
  for (const viewport of SIZES) {
    const name = (what) => join(output, `page-${what}-${viewport.width}-${colorScheme}.png`);
    const context = await browser.newContext({ viewport, colorScheme, permissions: ["camera"] });
    const page = await context.newPage();
    page.on("console", (message) => console.log(message.type(), message.text()));
    page.on("pageerror", (error) => console.log("error", error));
    await page.goto(url);
    await page.waitForFunction(() => document.querySelectorAll("#model option").length > 1);
    await page.screenshot({ path: name("start"), fullPage: true });
    await drop(page, { name: "portrait.jpg", type: "image/jpeg", body: await readFile(picture) });
    await page.waitForSelector("#face-list li");
    await page.waitForTimeout(400); // bars glide
    await page.screenshot({ path: name("picture"), fullPage: true });
    await page.click("#webcam");
    await page.waitForSelector("#event-list li");
    await page.waitForTimeout(8000); // the timeline fills
    await page.screenshot({ path: name("webcam"), fullPage: true });
    await context.close();
  }
}
await browser.close();
