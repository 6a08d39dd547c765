import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { lockStateFolder } from '../../node/store/index.ts';
import { ParleyError } from '../../protocols/errors.ts';

async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-lock-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

test('lockStateFolder() refuses a second peer in the same process', async (t) => {
  const folder = join(await temporaryFolder(t), 'state');
  const lock = await lockStateFolder(folder);
  await assert.rejects(lockStateFolder(folder), { code: 'state-in-use' });
  await lock.release();
  await (await lockStateFolder(folder)).release();
});

test('lockStateFolder() names the other process and is free once that is killed', async (t) => {
  const folder = await temporaryFolder(t);
  const script = `
    import { lockStateFolder } from ${JSON.stringify(import.meta.resolve('../../node/store/index.ts'))};
    await lockStateFolder(process.argv[1]);
    process.stdout.write('locked');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  await assert.rejects(lockStateFolder(folder), (error) => {
    assert.ok(error instanceof ParleyError);
    assert.equal(error.code, 'state-in-use');
    assert.ok(error.message.includes(folder) && error.message.includes(`process ${child.pid}`), error.message);
    return true;
  });
  child.kill('SIGKILL');
  await once(child, 'exit');
  await (await lockStateFolder(folder)).release();
});
