// Keeps the mutants fit: each must still break the code as it is now. Running them takes minutes: `node scripts/mutants.ts`.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { mutated } from '../../scripts/mutants/mutant.ts';
import { allMutants } from '../../scripts/mutants.ts';

const root = resolve(import.meta.dirname, '../..');

test('each mutant changes a text that its file has exactly once, and names tests that exist', async () => {
  for (const mutant of allMutants) {
    assert.notEqual(
      await mutated(root, mutant),
      await mutated(root, { ...mutant, replacement: mutant.text }),
      mutant.name,
    );
    assert.ok(mutant.tests.length > 0, mutant.name);
    for (const file of mutant.tests) assert.ok(existsSync(join(root, file)), `${mutant.name}: ${file}`);
  }
  assert.equal(new Set(allMutants.map(({ name }) => name)).size, allMutants.length, 'names are unique');
});

test('mutated() rejects a mutant whose text is gone or stands there twice', async () => {
  const [mutant] = allMutants;
  assert.ok(mutant);
  for (const text of ['no such text', 'import ']) {
    await assert.rejects(mutated(root, { ...mutant, text }), { code: 'mutant-stale' });
  }
  await assert.rejects(mutated(root, { ...mutant, file: 'node/gone.ts' }), { code: 'mutant-stale' });
});
