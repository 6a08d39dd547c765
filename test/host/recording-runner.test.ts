// Shows that whoever starts some work hears of its programs, and what of a command is written down.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commandText } from '../../node/host/command-text-core.ts';
import { createLogger, createProcessRunner, createRecordingRunner } from '../../node/host/index.ts';
import type { ProgramRun } from '../../protocols/program-run.ts';

const runner = createRecordingRunner(createProcessRunner({ logger: createLogger({ level: 'silent' }) }));

test('recording() tells the programs of its own work with their status, and none of what runs beside or after it', async () => {
  const [one, other]: ProgramRun[][] = [[], []];
  let leftBehind: (() => Promise<unknown>) | undefined;
  await Promise.all([
    runner.recording(
      (run) => one?.push(run),
      async () => {
        await runner.run({ program: 'sh', arguments: ['-c', 'exit 3'], environment: { SECRET: 'hunter2' } });
        await assert.rejects(runner.run({ program: 'no-such-program', arguments: [] }));
        const resource = Promise.resolve();
        leftBehind = () => resource.then(() => runner.run({ program: 'true', arguments: [] }));
      },
    ),
    runner.recording(
      (run) => other?.push(run),
      () => runner.run({ program: 'true', arguments: ['it is'] }),
    ),
  ]);
  await runner.run({ program: 'true', arguments: [] });
  await leftBehind?.();
  assert.deepEqual(one, [
    { command: "sh -c 'exit 3'", exitCode: 3 },
    { command: 'no-such-program', exitCode: null },
  ]);
  assert.deepEqual(other, [{ command: "true 'it is'", exitCode: 0 }]);
});

test('commandText() hides what may be a secret and shortens what is long', () => {
  const shown = (...arguments_: string[]) => commandText('nix', arguments_);
  assert.equal(shown('eval', '--option', 'access-tokens', 'github.com=abc'), 'nix eval --option access-tokens …');
  assert.equal(shown('https://me:pw@host/x', 'a?token=abc&b=1'), "nix https://…@host/x 'a?token=…&b=1'");
  assert.equal(shown('--password', 'pw', 'api_key=1'), 'nix --password … api_key=…');
  assert.equal(shown('--option', 'trusted-public-keys', 'desk:abc='), 'nix --option trusted-public-keys desk:abc=');
  assert.equal(shown("it's", ''), "nix 'it'\\''s' ''");
  assert.match(shown('x'.repeat(5_000)), /^nix x{240}…$/);
  assert.ok(shown(...Array.from({ length: 500 }, () => 'path')).length < 1_100);
});
