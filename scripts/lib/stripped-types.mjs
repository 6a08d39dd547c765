// Owns the cache of sources without their types. Node strips types with a parser that stays in memory, and its own compile
// cache keeps what it read there too: together 15 MiB that an idle peer on a small device never uses again. Loaded with
// --import it answers for this project's files; run by itself it fills the cache. The cache lies beside the code: who may
// change the one may change the other.

import { createHash } from 'node:crypto';
import { globSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import module from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(import.meta.dirname, '../..');
const cacheFolder = path.join(root, '.runtime', 'stripped');

/** The source of one file without types; stripped and kept if the cache does not have it. */
function strippedSource(file) {
  const source = readFileSync(file, 'utf8');
  const hash = createHash('sha256').update(process.version).update('\n').update(source).digest('hex');
  const cached = path.join(cacheFolder, `${hash}.js`);
  try {
    return readFileSync(cached, 'utf8');
  } catch {
    const stripped = module.stripTypeScriptTypes(source);
    keep(cached, stripped);
    return stripped;
  }
}

/** A folder that cannot be written costs memory, not the start. */
function keep(file, text) {
  try {
    mkdirSync(cacheFolder, { recursive: true });
    const partial = `${file}.${process.pid}`;
    writeFileSync(partial, text);
    renameSync(partial, file);
  } catch {}
}

if (process.argv[1] === import.meta.filename) {
  process.removeAllListeners('warning');
  for (const file of globSync('{protocols,node}/**/*.ts', { cwd: root })) strippedSource(path.join(root, file));
} else {
  module.registerHooks({
    load(url, context, nextLoad) {
      if (!url.startsWith('file:') || !url.endsWith('.ts')) return nextLoad(url, context);
      return { format: 'module', source: strippedSource(fileURLToPath(url)), shortCircuit: true };
    },
  });
}
