// Opens a page of the documentation site from the file system: node docs_site.mjs FILE
// Prints how many diagrams it has, how many are drawn, and what it asked other hosts for.

import { pathToFileURL } from "node:url";
import { startChromium } from "./chromium.mjs";

const browser = await startChromium();
const page = await browser.newPage();
const elsewhere = [];
page.on("request", (request) => {
  if (!/^(file|data|blob):/.test(request.url())) elsewhere.push(request.url());
});
await page.goto(pathToFileURL(process.argv[2]).href);
// The theme replaces a `pre.mermaid` by a `div.mermaid` with a closed shadow tree, which has a height once it is drawn.
const drawn = () => [...document.querySelectorAll("div.mermaid")].filter((each) => each.offsetHeight > 50).length;
await page.waitForFunction(() => !document.querySelector("pre.mermaid"), null, { timeout: 60_000 });
console.log(JSON.stringify({ drawn: await page.evaluate(drawn), elsewhere }));
await browser.close();
