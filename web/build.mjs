// Builds each folder of src into ../src/latent_atlas/report/static, one script and one style sheet, which go with the package.
// Classic scripts, since browsers load no modules from a page that is opened from disk.
import { build } from "esbuild";
import { gzipSync } from "fflate";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const to = "../src/latent_atlas/report/static";
const packages = new Set(["node_modules/onnxruntime-web"]); // whose code ships

for (const part of readdirSync("src")) {
  const entries = [`src/${part}/index.ts`, `src/${part}/index.css`].filter(existsSync);
  for (const entry of entries) {
    const { metafile } = await build({
      metafile: true,
      entryPoints: [entry],
      outfile: `${to}/${part}.${entry.endsWith(".css") ? "css" : "js"}`,
      bundle: true,
      minify: true,
      format: "iife",
      target: "es2022",
      charset: "utf8",
      legalComments: "inline",
      logLevel: "warning",
    });
    for (const input of Object.keys(metafile.inputs)) {
      const found = input.match(/^node_modules\/(@[^/]+\/)?[^/]+/);
      if (found) packages.add(found[0]);
    }
  }
}

// The WebAssembly of ONNX Runtime as a classic script. fflate packs to the same bytes on every machine, unlike node's zlib.
const wasm = readFileSync("node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm");
const packed = Buffer.from(gzipSync(wasm, { level: 9, mtime: 0 })).toString("base64");
writeFileSync(`${to}/runtime.js`, `(globalThis.atlas ??= {}).runtime="${packed}";\n`);

// What ships, by the text of its licence.
const licences = new Map();
for (const folder of [...packages].sort()) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  const text = file ? readFileSync(join(folder, file), "utf8").trim() : `${license} (the package holds no text of it)`;
  licences.set(text, [...(licences.get(text) ?? []), `${name} ${version} (${license})`]);
}
const sections = [...licences].map(([text, names]) => `${names.join("\n")}\n\n${text}\n`);
writeFileSync(`${to}/licences.txt`, sections.join(`\n${"=".repeat(80)}\n\n`));
