// examples.test.mjs: the files of examples/, run as they stand.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { execFileSync } from "node:child_process";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { PYTHON, Process, ROOT, browse, within } from "./lib.mjs";

const BUILT = process.env.PH_EXAMPLES_DIR ?? path.join(ROOT, "build/examples");

let browser;
let certs;
let cert;
let key;
let sha256;
let blank; // a secure context that is not ours

before(async () => {
  browser = await browse();
  certs = mkdtempSync(path.join(os.tmpdir(), "pronghorn-examples-"));
  const [file, keyFile, digest] = execFileSync(PYTHON, ["-c", `
from pronghorn import _core
cert, key, sha256 = _core.dev_certificate(${JSON.stringify(certs)})
print(cert, key, sha256.hex(), sep="\\n")`], { cwd: ROOT }).toString().trim().split("\n");
  [cert, key, sha256] = [file, keyFile, digest];
  blank = http.createServer((request, response) => {
    response.setHeader("content-type", "text/html");
    response.end("<!doctype html><link rel=icon href='data:,'>");
  });
  await new Promise((resolve) => { blank.listen(0, "127.0.0.1", resolve); });
});
after(async () => {
  await browser?.close();
  blank?.close();
  rmSync(certs, { recursive: true });
});

/** Runs `work` in a page with the address and certificate hash of an example;
 * `beforeClosing` the page is waited for. */
async function inPage(address, work, beforeClosing = () => {}) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${blank.address().port}/`);
  await page.evaluate(({ address, sha256 }) => {
    const value = new Uint8Array(sha256.match(/../g).map((pair) => parseInt(pair, 16)));
    window.dial = async (path) => {
      const transport = new WebTransport(`https://${address}${path}`,
        { serverCertificateHashes: [{ algorithm: "sha-256", value }] });
      await transport.ready;
      return transport;
    };
  }, { address, sha256 });
  const result = await within(page.evaluate(work), "the page");
  await beforeClosing();
  await context.close();
  return result;
}

test("examples/echo_wt.c echoes datagrams and streams", async () => {
  const example = new Process(path.join(BUILT, "echo_wt"), ["127.0.0.1:0", cert, key]);
  const [, address] = await example.line(/(127\.0\.0\.1:\d+)/);
  const result = await inPage(address, async () => {
    const transport = await window.dial("/");
    const reader = transport.datagrams.readable.getReader();
    await transport.datagrams.writable.getWriter().write(new TextEncoder().encode("ping"));
    const { value } = await reader.read();
    const stream = await transport.createBidirectionalStream();
    const writer = stream.writable.getWriter();
    await writer.write(new Uint8Array(100000).fill(7));
    writer.close();
    let length = 0;
    for (const input = stream.readable.getReader(); ;) {
      const { value: part, done } = await input.read();
      if (done) break;
      length += part.length;
    }
    transport.close();
    return { echo: new TextDecoder().decode(value), length };
  });
  assert.deepEqual(result, { echo: "ping", length: 100000 });
  assert.equal(await example.stop(), 0);
});

test("examples/events.c publishes a tick ten times a second", async () => {
  const example = new Process(path.join(BUILT, "events"), ["127.0.0.1:0", cert, key]);
  const [, address] = await example.line(/(127\.0\.0\.1:\d+)/);
  const ticks = await inPage(address, async () => {
    const transport = await window.dial("/");
    const { value: stream } = await transport.incomingUnidirectionalStreams.getReader().read();
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let all = "";
    while (all.split("\n").length < 6) all += (await reader.read()).value;
    transport.close();
    return all.split("\n").slice(0, 5);
  });
  const numbers = ticks.map((tick) => Number(tick.match(/\d+/)[0]));
  assert.deepEqual(numbers, numbers.map((_, i) => numbers[0] + i));
  assert.equal(await example.stop(), 0);
});

test("examples/dispatcher.py runs as it stands", async () => {
  const example = new Process(PYTHON, [path.join(ROOT, "examples/dispatcher.py")],
    { env: { CERTFILE: cert, KEYFILE: key }, cwd: certs });
  try {
    await example.line(/listening kind=quic/);
    const homepage = execFileSync("curl", ["-sk", "--max-time", "20", "https://localhost:8000/"]);
    assert.equal(JSON.parse(homepage).http_version, "1.1");
    const echo = await inPage("localhost:4433", async () => {
      const transport = await window.dial("/");
      window.transport = transport; // stays open when this returns
      const reader = transport.datagrams.readable.getReader();
      await transport.datagrams.writable.getWriter().write(new TextEncoder().encode("hello"));
      const { value } = await reader.read();
      const writer = (await transport.createUnidirectionalStream()).getWriter();
      await writer.write(new TextEncoder().encode("stream data"));
      await writer.close();
      return new TextDecoder().decode(value);
    }, () => example.line(/stream 14\D*stream data/)); // 2, 6 and 10 are HTTP/3's own
    assert.equal(echo, "Server Echo: hello");
    assert.equal(await example.stop("SIGINT"), 0);
  } finally {
    example.child.kill("SIGKILL");
  }
});
