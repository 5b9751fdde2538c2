// Builds each folder of src into ../src/latent_atlas/report/static, one script and one style sheet, which go with the package.
// Classic scripts, since browsers load no modules from a page that is opened from disk.
import { build } from "esbuild";
import { existsSync, readdirSync } from "node:fs";

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
