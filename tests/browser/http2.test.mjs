// http2.test.mjs: Chromium comes to the TLS port over HTTP/2, and Alt-Svc leads it on to HTTP/3 on the
// UDP port of the same number.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { PYTHON, Process, browse, certificate } from "./lib.mjs";

test("a page and a POST of 1 MB over HTTP/2, and by Alt-Svc on to HTTP/3", async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "pronghorn-http2-"));
  const { cert, key, spki } = certificate(folder);
  const server = new Process(PYTHON, ["-m", "pronghorn", "tests.browser.app:app",
    "--bind", "127.0.0.1:0", "--certfile", cert, "--keyfile", key,
    "--h2-idle-timeout", "1"]);
  let browser;
  try {
    const port = Number((await server.line(/listening kind=tls address=\S*:(\d+)/))[1]);
    await server.line(new RegExp(`listening kind=quic address=\\S*:${port}`));
    browser = await browse([
      `--ignore-certificate-errors-spki-list=${spki}`,
      "--host-resolver-rules=MAP localhost 127.0.0.1",
      // Another port: it lets QUIC to this host do without a certificate of the web's authorities.
      "--origin-to-force-quic-on=localhost:1",
    ]);
    const page = await browser.newPage();
    await page.goto(`https://localhost:${port}/`);
    assert.equal(await page.textContent("#v"), "2");
    const result = await page.evaluate(async () => {
      const data = new Uint8Array(1 << 20).map((_, i) => (i * 7 + (i >> 8)) & 255);
      const answer = await (await fetch("/body", { method: "POST", body: data })).json();
      const digest = [...new Uint8Array(await crypto.subtle.digest("SHA-256", data))]
        .map((byte) => byte.toString(16).padStart(2, "0")).join("");
      const many = await Promise.all(
        Array.from({ length: 100 }, (_, i) => fetch(`/missing?${i}`).then((got) => got.status)),
      );
      return { answer, digest, missing: new Set(many).size === 1 && many[0] };
    });
    assert.equal(result.answer.length, 1 << 20);
    assert.equal(result.answer.sha256, result.digest);
    assert.equal(result.missing, 404);
    const protocols = await page.evaluate(async () => {
      const used = [];
      for (let i = 0; !used.includes("h3") && i < 10; i++) {
        // A connection that lives is used again: the server lets it go after a second of silence.
        await new Promise((resolve) => setTimeout(resolve, 1500));
        const url = new URL(`/missing?later=${i}`, location).href;
        await (await fetch(url)).text();
        used.push(performance.getEntriesByName(url)[0]?.nextHopProtocol);
        performance.clearResourceTimings();
      }
      return used;
    });
    assert.ok(protocols.includes("h3"), `never came over HTTP/3: ${protocols}`);
  } finally {
    await browser?.close();
    const code = await server.stop();
    rmSync(folder, { recursive: true });
    assert.equal(code, 0, server.output);
  }
});
