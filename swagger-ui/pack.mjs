// Makes the page of Swagger UI and writes it compressed to the file that is the first argument, or compares it with `--check`.
//
// Swagger UI contains ApiDOM, which is a third of its size and reads OpenAPI 3.1 alone. The document of latchkey is 3.0, so ApiDOM is
// left out.

import { readFileSync, writeFileSync } from 'node:fs'
import { gunzipSync, gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const [packed, option] = process.argv.slice(2)
if (option !== undefined && option !== '--check') {
  throw new Error(`${option} is not --check`)
}
const read = (name) => readFileSync(new URL(name, import.meta.url), 'utf8')

const withoutApiDom = {
  name: 'without-apidom',
  setup(build) {
    const filter = /^swagger-client\/es\/resolver\/strategies\/openapi-3-1-apidom$/
    build.onResolve({ filter }, ({ path }) => ({ path, namespace: 'without-apidom' }))
    build.onLoad({ filter, namespace: 'without-apidom' }, () => ({
      contents: `export default { name: 'openapi-3-1-apidom', match: () => false }`,
    }))
  },
}

const options = {
  absWorkingDir: import.meta.dirname,
  bundle: true,
  minify: true,
  write: false,
  target: 'es2022',
  legalComments: 'none',
}
const bundle = async (more) => (await build({ ...options, ...more })).outputFiles[0].text

const script = await bundle({
  entryPoints: ['page.js'],
  format: 'iife',
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  plugins: [withoutApiDom],
})
const style = await bundle({
  stdin: { contents: `@import "swagger-ui/dist/swagger-ui.css"; @import "./page.css";`, loader: 'css', resolveDir: import.meta.dirname },
})

const parts = { script: script.trim(), style: style.trim() }
for (const [name, text] of Object.entries(parts)) {
  if (new RegExp(`</${name}|{{document}}`, 'i').test(text)) {
    throw new Error(`the ${name} would end its own element`)
  }
}
const page = read('page.html').replace(/{{(script|style)}}/g, (_, name) => parts[name])

if (option) {
  if (gunzipSync(readFileSync(packed)).toString() !== page) {
    console.error('the packed page of Swagger UI differs; swagger-ui/pack makes it again')
    process.exit(1)
  }
} else {
  writeFileSync(packed, gzipSync(page, { level: 9 }))
}
