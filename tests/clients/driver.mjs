// Runs calls of @apperate/iexjs as a program of a user would: one line of JSON with code in, one with the
// outcome out. Usage: node driver.mjs FOLDER cjs|esm
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import vm from "node:vm";

const [folder, build] = process.argv.slice(2);
const found = createRequire(join(folder, "any.js"));
const esm = build === "esm" ? await import(pathToFileURL(join(folder, "iexjs.mjs"))) : null;
// A bundler gives the build for browsers to whoever names the package; Node gives the other one.
globalThis.require = (name) => (esm && name === "@apperate/iexjs" ? esm : found(name));

for await (const line of createInterface({ input: process.stdin })) {
  const outcome = {};
  try {
    outcome.value = (await vm.runInThisContext(JSON.parse(line).code)) ?? null;
  } catch (error) {
    outcome.error = String(error?.message ?? error);
  }
  let text;
  try {
    text = JSON.stringify(outcome);
  } catch {
    text = "{}"; // What the code left is not data.
  }
  process.stdout.write(`${text}\n`);
}
