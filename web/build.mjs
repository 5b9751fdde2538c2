// Builds each folder of src into ../src/latent_atlas/report/static, one script and one style sheet, which go with the package.
// Classic scripts, since browsers load no modules from a page that is opened from disk.
import { build } from "esbuild";
import { gzipSync } from "fflate";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";

const to = "../src/latent_atlas/report/static";

for (const part of readdirSync("src")) {
  const entries = [`src/${part}/index.ts`, `src/${part}/index.css`].filter(existsSync);
  for (const entry of entries) {
    await build({
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
  }
}

// The WebAssembly of ONNX Runtime as a classic script. fflate packs to the same bytes on every machine, unlike node's zlib.
const wasm = readFileSync("node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm");
const packed = Buffer.from(gzipSync(wasm, { level: 9, mtime: 0 })).toString("base64");
writeFileSync(`${to}/runtime.js`, `(globalThis.atlas ??= {}).runtime="${packed}";\n`);
