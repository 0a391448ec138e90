// demo.test.mjs: the demo as a newcomer sees it, on a desk and on a phone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Process, Server, browse, within } from "./lib.mjs";

let server;
let browser;

before(async () => {
  server = await Server.start("demo.app:app");
  browser = await browse();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

const number = async (page, id) => Number((await page.textContent(`#${id}`)).replaceAll(",", ""));

async function visit(viewport) {
  const page = await browser.newPage({ viewport });
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => { if (message.type() === "error") errors.push(message.text()); });
  await page.goto(server.page);
  await page.waitForSelector("#state[data-state=open]");
  return { page, errors };
}

test("figures move, the log is in order, pings come back, nothing is lost", async () => {
  const { page, errors } = await visit({ width: 1200, height: 1000 });
  await page.waitForFunction(() => Number(document.querySelector("#down-received").textContent) > 60);
  await page.waitForFunction(() => Number(document.querySelector("#up-received").textContent) > 20);
  await page.waitForFunction(() => /every one in order/.test(document.querySelector("#order").textContent));
  assert.match(await page.textContent("#rtt-p50"), /ms/);
  assert.match(await page.textContent("#rtt-p99"), /ms/);
  assert.match(await page.textContent("#cpu"), /%/);
  assert.equal(await number(page, "down-lost"), 0);
  assert.equal(await number(page, "up-lost"), 0);
  assert.ok(await number(page, "packets-out") > 60);
  if (process.env.PH_SCREENSHOTS) await page.screenshot({ path: `${process.env.PH_SCREENSHOTS}/demo.png` });
  assert.deepEqual(errors, []);
  await page.close();
});

test("the button blocks Python, and the transport does not notice", async () => {
  const { page, errors } = await visit({ width: 1200, height: 1000 });
  await page.waitForFunction(() => Number(document.querySelector("#up-received").textContent) > 10);
  await page.click("#block");
  await within(page.waitForFunction(() => document.querySelectorAll("#verdict li").length === 6), "the verdict");
  const verdict = await page.$$eval("#verdict li", (items) => items.map((item) => [item.className, item.textContent]));
  if (process.env.PH_SCREENSHOTS) await page.screenshot({ path: `${process.env.PH_SCREENSHOTS}/block.png` });
  assert.deepEqual(verdict.filter(([kind]) => kind !== "good"), []);
  assert.equal(await page.getAttribute("#state", "data-state"), "open");
  assert.deepEqual(errors, []);
  await page.close();
});

test("on a phone nothing is cut off", async () => {
  const { page } = await visit({ width: 360, height: 740 });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(overflow <= 0, `the page is ${overflow} px too wide`);
  if (process.env.PH_SCREENSHOTS) {
    await page.screenshot({ path: `${process.env.PH_SCREENSHOTS}/phone.png`, fullPage: true });
  }
  await page.close();
});

test("a browser without WebTransport, and a dead port, are told what to do", async () => {
  const page = await browser.newPage();
  await page.addInitScript(() => { delete window.WebTransport; });
  await page.goto(server.page);
  await page.waitForSelector("#trouble:not([hidden])");
  assert.match(await page.textContent("#trouble-title"), /no WebTransport/);
  await page.close();

  const other = await browser.newPage();
  await other.route("**/settings.json", async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ json: { ...(await answer.json()), port: 9 } });
  });
  await other.goto(server.page);
  await other.waitForSelector("#trouble:not([hidden])");
  assert.match(await other.textContent("#trouble-advice"), /UDP port 9/);
  await other.close();
});

test("a server that stops is told from one that cannot be reached, and found again", async () => {
  const first = await Server.start("demo.app:app");
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  const saysTrouble = (title) => page.waitForFunction(
    (title) => document.querySelector("#trouble-title").textContent === title, title);
  let again;
  try {
    await page.goto(first.page);
    await page.waitForSelector("#state[data-state=open]");
    const ended = saysTrouble("The connection ended");
    await first.close();
    await within(ended, "the end");
    await within(saysTrouble("The server does not answer"), "the server is gone");
    assert.match(await page.textContent("#trouble-text"), new RegExp(`nothing at ${first.page} any more`));
    assert.doesNotMatch(await page.textContent("#trouble"), /undefined|UDP port/);
    again = await Server.start("demo.app:app", ["--bind", `127.0.0.1:${first.http}`]);
    await page.evaluate(() => document.querySelector("#retry").click()); // unless it came back by itself
    await page.waitForSelector("#state[data-state=open]");
    assert.equal(await page.isHidden("#trouble"), true);
    assert.deepEqual(errors, []);
  } finally {
    await page.close();
    await again?.close();
  }
});

test("tools/demo.sh serves the page and ends well on SIGTERM", async () => {
  const demo = new Process("tools/demo.sh", ["--bind", "127.0.0.1:0", "--quic-bind", "127.0.0.1:0"]);
  try {
    const [, address] = await demo.line(/listening kind=tcp address=(\S+)/);
    const [, port] = await demo.line(/listening kind=quic address=\S+:(\d+)/);
    await demo.line(/ready pid=/);
    const page = await fetch(`http://${address}/`);
    assert.equal(page.status, 200);
    assert.match(await page.text(), /<title>[^<]*Pronghorn/);
    const settings = await (await fetch(`http://${address}/settings.json`)).json();
    assert.equal(settings.port, Number(port));
    assert.equal(await demo.stop("SIGTERM"), 0);
  } finally {
    demo.child.kill("SIGKILL");
  }
});
