// Uses the example of a page in Chromium and prints what it shows: node example.mjs PAGE-URL STREAM-URL PICTURE

import { startChromium } from "./chromium.mjs";

const [url, stream, picture] = process.argv.slice(2);
const browser = await startChromium();
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  await page.goto(url);
  await page.fill("#server", stream);
  await page.setInputFiles("#picture", picture);
  await page.waitForFunction(() => document.querySelector("#faces").textContent !== "");
  console.log(await page.textContent("#faces"));
} finally {
  await browser.close();
}
