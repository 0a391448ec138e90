// examples.test.mjs: the files of examples/, run as they stand.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { execFileSync } from "node:child_process";
import dgram from "node:dgram";
import http from "node:http";
import net from "node:net";
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
  await beforeClosing(page);
  await context.close();
  return result;
}

/** `pronghorn --dev` on free ports, with the certificate of all examples. */
async function serveDev(target) {
  const server = new Process(PYTHON, ["-m", "pronghorn", "--dev", "--cert-dir", certs, "--app-dir", "examples",
    "--bind", "127.0.0.1:0", "--quic-bind", "127.0.0.1:0", target]);
  server.http = (await server.line(/kind=tcp address=(\S+)/))[1];
  server.quic = (await server.line(/kind=quic address=(\S+)/))[1];
  await server.line(/ready pid=/);
  return server;
}

/** Fails with the port's name when another process has it. */
async function assertFree(kind, port) {
  const socket = kind === "TCP" ? net.createServer() : dgram.createSocket("udp4");
  await new Promise((resolve, reject) => {
    socket.once("error", (error) => reject(new Error(
      `${kind} port ${port} is in use (${error.code}): stop what has it, for example \`make demo\``)));
    if (kind === "TCP") socket.listen(port, "127.0.0.1", resolve);
    else socket.bind(port, "127.0.0.1", resolve);
  });
  await new Promise((resolve) => { socket.close(resolve); });
}

test("examples/hello.c answers", async () => {
  const example = new Process(path.join(BUILT, "hello"), ["127.0.0.1:0"]);
  try {
    const [, address] = await example.line(/kind=tcp address=(127\.0\.0\.1:\d+)/);
    const answer = await fetch(`http://${address}/any/path`);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("content-type"), "text/plain");
    assert.equal(await answer.text(), "Hello, world!\n");
    const posted = await fetch(`http://${address}/`, { method: "POST", body: new Uint8Array(1 << 20) });
    assert.equal(await posted.text(), "Hello, world!\n");
    assert.equal(await example.stop(), 0);
  } finally {
    example.child.kill("SIGKILL");
  }
});

test("examples/echo.py echoes datagrams and streams", async () => {
  const example = await serveDev("echo:app");
  try {
    const result = await inPage(example.quic, async () => {
      const transport = await window.dial("/");
      const reader = transport.datagrams.readable.getReader();
      await transport.datagrams.writable.getWriter().write(new TextEncoder().encode("ping"));
      const { value } = await reader.read();
      const stream = await transport.createBidirectionalStream();
      const writer = stream.writable.getWriter();
      await writer.write(new TextEncoder().encode("on a stream"));
      writer.close();
      const echo = await new Response(stream.readable).text();
      transport.close();
      return [new TextDecoder().decode(value), echo];
    });
    assert.deepEqual(result, ["ping", "on a stream"]);
    assert.equal(await example.stop(), 0);
  } finally {
    example.child.kill("SIGKILL");
  }
});

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
  const { lines, seconds } = await inPage(address, async () => {
    const transport = await window.dial("/");
    const { value: stream } = await transport.incomingUnidirectionalStreams.getReader().read();
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let all = (await reader.read()).value;
    const began = performance.now();
    const first = all.split("\n").length - 1; // whole lines so far
    while (all.split("\n").length - 1 < first + 10) all += (await reader.read()).value;
    const seconds = (performance.now() - began) / 1000;
    transport.close();
    return { lines: all.split("\n").slice(0, -1), seconds };
  });
  const numbers = lines.map((line) => Number(line.match(/\d+/)[0]));
  assert.deepEqual(numbers, numbers.map((_, i) => numbers[0] + i));
  assert.ok(seconds >= 0.3 && seconds <= 10, `ten ticks took ${seconds} s`); // 1 s, and a busy machine
  assert.equal(await example.stop(), 0);
});

test("examples/dispatcher.py runs as it stands", async () => {
  await assertFree("TCP", 8000); // those that the example names
  await assertFree("UDP", 4433);
  const example = new Process(PYTHON, [path.join(ROOT, "examples/dispatcher.py")],
    { env: { CERTFILE: cert, KEYFILE: key }, cwd: certs });
  try {
    await example.line(/listening kind=quic/);
    for (const version of ["1.1", "2"]) {
      const homepage = execFileSync("curl", ["-sk", `--http${version}`, "--max-time", "20", "https://localhost:8000/"]);
      assert.equal(JSON.parse(homepage).http_version, version);
    }
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
    }, async (page) => {
      await example.line(/stream 14\D*stream data/); // 2, 6 and 10 are HTTP/3's own
      await page.evaluate(() => window.transport.close());
    });
    assert.equal(echo, "Server Echo: hello");
    assert.equal(await example.stop("SIGINT"), 0);
  } finally {
    example.child.kill("SIGKILL");
  }
});

test("examples/dispatcher.html shows what comes back", async () => {
  const example = await serveDev("dispatcher:app");
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.message));
    await page.goto(`http://${example.http}/page`);
    const shows = (line) => within(page.waitForFunction((wanted) =>
      document.getElementById("log").textContent.split("\n").includes(wanted), line), `the line "${line}"`);
    await shows("connected");
    await page.fill("#text", "good day");
    await page.click("#send");
    await shows("Server Echo: good day");
    await page.click("#stream");
    await shows("sent on a stream: see the server's output");
    await example.line(/stream \d+: b'good day'/);
    assert.equal(await page.textContent("#log"),
      "connected\nServer Echo: good day\nsent on a stream: see the server's output\n");
    assert.deepEqual(errors, []);
    await page.goto("about:blank"); // ends the session: the server has nothing to wait for
    await context.close();
    assert.equal(await example.stop(), 0);
  } finally {
    example.child.kill("SIGKILL");
  }
});
