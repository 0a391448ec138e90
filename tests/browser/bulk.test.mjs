// bulk.test.mjs: ten megabytes each way by hash, a handler that blocks Python meanwhile, and a server that
// goes away.

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, before, test } from "node:test";
import { Server, browse, open, until, within } from "./lib.mjs";

const SIZE = 10 * 1024 * 1024;
const BLOCK = 5; // seconds

let browser;

before(async () => {
  browser = await browse();
});
after(async () => {
  await browser?.close();
});

async function withServer(work) {
  const server = await Server.start("tests.browser.app:app");
  let page;
  try {
    page = await open(browser, server);
    await work(server, page);
  } finally {
    await page?.closeAll();
    await server.close();
  }
}

const uploadFrom = (page, path) => page.evaluate(async ({ path, size }) => {
  const data = bulk(size);
  const transport = await connect(path);
  const stream = await transport.createBidirectionalStream();
  const writing = writeAll(stream.writable, data);
  const report = JSON.parse(text(await readAll(stream.readable)));
  await writing;
  transport.close();
  return { ...report, sent: await sha256(data) };
}, { path, size: SIZE });

test("10 MB up, compared by hash", () => withServer(async (server, page) => {
  const report = await uploadFrom(page, "/upload");
  assert.equal(report.length, SIZE);
  assert.equal(report.sha256, report.sent);
}));

test("10 MB down, compared by hash", () => withServer(async (server, page) => {
  const digest = await page.evaluate(async () => {
    const transport = await connect("/download");
    const { value: stream } = await transport.incomingUnidirectionalStreams.getReader().read();
    const data = await readAll(stream);
    transport.close();
    return { length: data.length, sha256: await sha256(data) };
  });
  const { bulk } = await server.report("?bulk=1");
  assert.deepEqual(digest, { length: SIZE, sha256: bulk });
}));

test(`Python blocked for ${BLOCK} s with 10 MB under way: nothing is lost, the connection is healthy`,
  () => withServer(async (server, page) => {
    const began = Date.now();
    const report = await uploadFrom(page, `/upload?block=${BLOCK}`);
    assert.ok(Date.now() - began >= BLOCK * 1000, "the handler did block");
    assert.equal(report.length, SIZE);
    assert.equal(report.sha256, report.sent);
    const { seen, stats } = await server.report();
    assert.equal(stats.sessions, 1, "the session was never lost");
    assert.equal(stats.timeouts_idle, 0);
    // Healthy means: what arrived was worth sending. A peer that retransmits for five seconds would have sent
    // the window many times over.
    const packets = stats.packets_in - seen.blocked_from.packets_in;
    assert.ok(packets < (SIZE / 1000) * 1.5, `${packets} packets for ${SIZE} bytes`);
  }));

/** A server with one session, whose end the page keeps in `ended`. */
async function withSession(path, args, work) {
  const server = await Server.start("tests.browser.app:app", args);
  const page = await open(browser, server);
  try {
    await page.evaluate(async (path) => {
      window.transport = await connect(path);
      window.ended = transport.closed.then(
        ({ closeCode, reason }) => ({ closeCode, reason }), (error) => ({ error: error.message }));
      const writer = transport.datagrams.writable.getWriter();
      setInterval(() => writer.write(bytes("anyone there?")).catch(() => {}), 100);
    }, path);
    await work(server, within(page.evaluate(() => window.ended), "the session's end"));
  } finally {
    await page.closeAll();
    await server.stop("SIGKILL");
    rmSync(server.certs, { recursive: true });
  }
}

test("SIGTERM: an application that closes when told to finish ends the session cleanly, and at once", () =>
  withSession("/leaves", ["--graceful-timeout", "30"], async (server, ended) => {
    const began = Date.now();
    assert.equal(await server.stop("SIGTERM"), 0);
    assert.ok(Date.now() - began < 15_000, "nothing was left to wait for");
    assert.deepEqual(await ended, { closeCode: 4, reason: "back soon" });
  }));

test("SIGTERM: a session that goes on is cut when the graceful timeout is over", () =>
  withSession("/echo", ["--graceful-timeout", "1"], async (server, ended) => {
    const began = Date.now();
    assert.equal(await server.stop("SIGTERM"), 0);
    assert.ok(Date.now() - began >= 1000, "it had its second");
    assert.match((await ended).error, /Connection lost/);
  }));

test("SIGKILL: the page learns that the connection is lost", () =>
  withSession("/echo", [], async (server, ended) => {
    await server.stop("SIGKILL");
    assert.match((await ended).error, /Connection lost/);
  }));

test("a page that vanishes costs the server nothing for long", () => withServer(async (server, page) => {
  await page.evaluate(async () => { window.transport = await connect("/echo"); });
  await page.goto("about:blank");
  const { seen } = await until(() => server.report(), ({ seen }) => seen.disconnect !== undefined,
    "disconnect after navigation");
  assert.equal(seen.disconnect.code, 0);
  assert.equal(seen.disconnect.clean, true);
}));
