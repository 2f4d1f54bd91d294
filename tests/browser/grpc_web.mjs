// Calls a server by gRPC-Web from pages in Chromium, and writes the outcomes as JSON:
// node grpc_web.mjs PROXY-URL METHOD PAGE-URL=BASE64-REQUEST...

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { startChromium } from "./chromium.mjs";

const [proxy, method, ...calls] = process.argv.slice(2);
const library = await readFile(createRequire(import.meta.url).resolve("grpc-web"), "utf8");
const browser = await startChromium();
const outcomes = [];
for (const call of calls) {
  const [url, request] = call.split(/=(.*)/s);
  const page = await browser.newPage();
  await page.goto(url);
  outcomes.push(await page.evaluate(async ({ library, proxy, method, request }) => {
    const exports = {};
    new Function("exports", "module", library)(exports, { exports });
    const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const text = (array) => btoa(String.fromCharCode(...array));
    const { GrpcWebClientBase, MethodDescriptor, MethodType } = exports;
    const descriptor = new MethodDescriptor(method, MethodType.UNARY, Uint8Array, Uint8Array, bytes, text);
    const client = new GrpcWebClientBase({ format: "binary" });
    try {
      return { answer: await client.unaryCall(proxy + method, request, {}, descriptor) };
    } catch ({ code, message, metadata }) {
      return { code, message, metadata };
    }
  }, { library, proxy, method, request }));
  await page.close();
}
await browser.close();
console.log(JSON.stringify(outcomes));
