// http3.test.mjs: the page itself over HTTP/3, and WebTransport from it without a certificate hash.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import { Server, browse } from "./lib.mjs";

/** What Chromium's --ignore-certificate-errors-spki-list wants. */
function spki(certificate) {
  const key = execFileSync("openssl", ["x509", "-in", certificate, "-pubkey", "-noout"]);
  const der = execFileSync("openssl", ["pkey", "-pubin", "-outform", "der"], { input: key });
  return execFileSync("openssl", ["dgst", "-sha256", "-binary"], { input: der }).toString("base64");
}

test("a page, a POST of 1 MB and WebTransport over HTTP/3", async () => {
  const server = await Server.start("tests.browser.app:app");
  const origin = `localhost:${server.quic}`;
  const browser = await browse([
    `--origin-to-force-quic-on=${origin}`,
    `--ignore-certificate-errors-spki-list=${spki(path.join(server.certs, "dev-cert.pem"))}`,
    `--host-resolver-rules=MAP localhost 127.0.0.1`,
  ]);
  try {
    const page = await browser.newPage();
    await page.goto(`https://${origin}/`);
    assert.equal(await page.textContent("#v"), "3");
    const result = await page.evaluate(async (url) => {
      const data = new Uint8Array(1 << 20).map((_, i) => (i * 7 + (i >> 8)) & 255);
      const answer = await (await fetch("/body", { method: "POST", body: data })).json();
      const digest = [...new Uint8Array(await crypto.subtle.digest("SHA-256", data))]
        .map((byte) => byte.toString(16).padStart(2, "0")).join("");
      const missing = (await fetch("/missing")).status;
      const transport = new WebTransport(url);
      await transport.ready;
      const reader = transport.datagrams.readable.getReader();
      await transport.datagrams.writable.getWriter().write(new TextEncoder().encode("no hash"));
      const { value } = await reader.read();
      transport.close();
      return { answer, digest, missing, echo: new TextDecoder().decode(value) };
    }, `https://${origin}/echo`);
    assert.equal(result.answer.length, 1 << 20);
    assert.equal(result.answer.sha256, result.digest);
    assert.equal(result.missing, 404);
    assert.equal(result.echo, "no hash");
  } finally {
    await browser.close();
    await server.close();
  }
});
