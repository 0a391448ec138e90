// websocket.test.mjs: WebSocket of Chromium over HTTP/1.1 in cleartext and over HTTP/2 (RFC 8441), with
// compression as browsers offer it.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { PYTHON, Process, browse, certificate } from "./lib.mjs";

/** In the page: everything that a test wants to know of sockets. */
async function talk(base) {
  const opened = (url, ...rest) =>
    new Promise((resolve) => {
      const socket = new WebSocket(url, ...rest);
      const inbox = [], waiting = [];
      socket.binaryType = "arraybuffer";
      socket.onmessage = ({ data }) => (waiting.length ? waiting.shift()(data) : inbox.push(data));
      socket.next = () =>
        inbox.length
          ? Promise.resolve(inbox.shift())
          : new Promise((resolve) => waiting.push(resolve));
      socket.ended = new Promise((resolve) => {
        socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
      });
      socket.onopen = () => resolve(socket);
      socket.onerror = () => resolve(socket);
    });

  const socket = await opened(`${base}/ws`, ["first", "second"]);
  const about = JSON.parse(await socket.next());
  const text = "gr\u00fc\u00dfe \u{1f9ff} ".repeat(20000);
  socket.send(text);
  const textCame = (await socket.next()) === text;
  const bytes = new Uint8Array(1 << 20).map((_, i) => (i * 7 + (i >> 8)) & 255);
  socket.send(bytes);
  const back = new Uint8Array(await socket.next());
  const bytesCame = back.length === bytes.length && back.every((byte, i) => byte === bytes[i]);
  socket.send("");
  const emptyCame = (await socket.next()) === "";
  for (let i = 0; i < 1000; i++) socket.send(`message ${i}`);
  let inOrder = true;
  for (let i = 0; i < 1000; i++) inOrder &&= (await socket.next()) === `message ${i}`;
  const { protocol, extensions } = socket;
  socket.close(4321, "by the page");
  const end = await socket.ended;

  const asked = await opened(`${base}/ws`);
  asked.send("close");
  const endByServer = await asked.ended;
  const refused = await (await opened(`${base}/no`)).ended;
  const many = await Promise.all(Array.from({ length: 20 }, () => opened(`${base}/ws`)));
  const versions = await Promise.all(many.map(async (one) => JSON.parse(await one.next()).http));
  many.forEach((one) => one.close());
  await Promise.all(many.map((one) => one.ended));
  return {
    about, textCame, bytesCame, emptyCame, inOrder, protocol, extensions, end, endByServer, refused,
    versions: [...new Set(versions)],
  };
}

function check(result, http, scheme) {
  assert.deepEqual(result.about, { http, scheme, compressed: true });
  for (const fact of ["textCame", "bytesCame", "emptyCame", "inOrder"]) assert.ok(result[fact], fact);
  assert.equal(result.protocol, "second");
  assert.match(result.extensions, /^permessage-deflate/);
  assert.deepEqual(result.end, { code: 4321, reason: "by the page", wasClean: true });
  assert.deepEqual(result.endByServer, { code: 4001, reason: "as asked", wasClean: true });
  assert.equal(result.refused.code, 1006);
  assert.deepEqual(result.versions, [http]);
}

test("over HTTP/1.1 in cleartext", async () => {
  const server = new Process(PYTHON, ["-m", "pronghorn", "tests.browser.app:app",
    "--insecure-bind", "127.0.0.1:0"]);
  let browser;
  try {
    const port = (await server.line(/listening kind=tcp address=\S*:(\d+)/))[1];
    browser = await browse(["--host-resolver-rules=MAP localhost 127.0.0.1"]);
    const page = await browser.newPage();
    await page.goto(`http://localhost:${port}/`);
    check(await page.evaluate(talk, `ws://localhost:${port}`), "1.1", "ws");
    const report = await (await fetch(`http://127.0.0.1:${port}/report`)).json();
    assert.deepEqual(report.seen.socket, { code: 1005, reason: "" }); // of the last of many
  } finally {
    await browser?.close();
    assert.equal(await server.stop(), 0, server.output);
  }
});

test("over HTTP/2", async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "pronghorn-ws-"));
  const { cert, key, spki } = certificate(folder);
  const server = new Process(PYTHON, ["-m", "pronghorn", "tests.browser.app:app",
    "--bind", "127.0.0.1:0", "--certfile", cert, "--keyfile", key, "--no-http3"]);
  let browser;
  try {
    const port = (await server.line(/listening kind=tls address=\S*:(\d+)/))[1];
    browser = await browse([
      `--ignore-certificate-errors-spki-list=${spki}`,
      "--host-resolver-rules=MAP localhost 127.0.0.1",
    ]);
    const page = await browser.newPage();
    await page.goto(`https://localhost:${port}/`);
    check(await page.evaluate(talk, `wss://localhost:${port}`), "2", "wss");
  } finally {
    await browser?.close();
    const code = await server.stop();
    rmSync(folder, { recursive: true });
    assert.equal(code, 0, server.output);
  }
});
