// The configuration file: what is refused and what the refusal names; folders that cannot be used.

import assert from 'node:assert/strict';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { checkFolderPath, loadConfig, writeConfig } from '../../node/config.ts';
import { check } from '../../protocols/codec.ts';
import { configSchema } from '../../protocols/config.ts';

async function createFolder(context: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-config-'));
  context.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

const config = check(configSchema, { version: 1, listen: ['/ip4/127.0.0.1/tcp/0'] });

test('loadConfig() gives what writeConfig() wrote, with defaults and absolute places', async (context) => {
  const folder = await createFolder(context);
  await writeConfig(join(folder, 'config.json'), config);
  const loaded = await loadConfig({ state: folder });
  assert.deepEqual(loaded, { ...config, file: join(folder, 'config.json'), stateFolder: folder });
  assert.equal(loaded.speakAs, false);
  assert.equal((await stat(loaded.file)).mode & 0o777, 0o600);
});

test('writeConfig() leaves a different configuration alone and takes the same one', async (context) => {
  const file = join(await createFolder(context), 'config.json');
  await writeConfig(file, config);
  await writeConfig(file, config);
  await assert.rejects(writeConfig(file, { ...config, speakAs: true }), { code: 'config-exists' });
});

test('loadConfig() names the field that does not fit', async (context) => {
  const folder = await createFolder(context);
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, healthSettleMs: 'soon' }));
  await assert.rejects(loadConfig({ state: folder }), { code: 'config-invalid', message: /healthSettleMs/ });
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, colour: 'red' }));
  await assert.rejects(loadConfig({ state: folder }), { code: 'config-invalid', message: /colour/ });
  await writeFile(join(folder, 'config.json'), '{');
  await assert.rejects(loadConfig({ state: folder }), { code: 'config-invalid' });
});

test('loadConfig() says what to do where there is no peer', async (context) => {
  const folder = await createFolder(context);
  await assert.rejects(loadConfig({ state: folder }), { code: 'config-missing', hint: /parley init/ });
});

test('checkFolderPath() refuses what Nix cannot name', () => {
  assert.equal(checkFolderPath('/var/lib/parley-2_x'), '/var/lib/parley-2_x');
  for (const folder of ['/tmp/a b', '/tmp/a?b', '/tmp/ä', '/tmp/a#b', '/tmp/a%20b']) {
    assert.throws(() => checkFolderPath(folder), { code: 'folder-unusable' });
  }
});
