// IEX-HMAC-SHA256 in JavaScript, written from the specification alone and without dependencies.
//
//   node signer.mjs < requests.jsonl > signatures.txt
//
// One request a line: {"method", "path", "query", "host", "date", "secret", "body"}; all but method, date and
// secret are base64, because they are bytes. One signature a line comes back.

import { createHash, createHmac } from "node:crypto";
import { createInterface } from "node:readline";

const hmacHex = (key, text) => createHmac("sha256", key).update(text).digest("hex");
const bytes = (base64) => Buffer.from(base64, "base64");

export function sign({ method, path, query, host, date, secret, body }) {
  const day = date.slice(0, 8);
  const canonical = Buffer.concat([
    Buffer.from(`${method}\n`),
    path,
    Buffer.from("\n"),
    query,
    Buffer.from("\nhost:"),
    host,
    Buffer.from(`\nx-iex-date:${date}\n\nhost;x-iex-date\n`),
    Buffer.from(createHash("sha256").update(body).digest("hex")),
  ]);
  const digest = createHash("sha256").update(canonical).digest("hex");
  const toSign = ["IEX-HMAC-SHA256", date, `${day}/iex_request`, digest].join("\n");
  return hmacHex(hmacHex(hmacHex(secret, day), "iex_request"), toSign);
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  for (const name of ["path", "query", "host", "body"]) request[name] = bytes(request[name]);
  process.stdout.write(`${sign(request)}\n`);
}
