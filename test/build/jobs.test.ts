// Shows that a builder elsewhere is used like the local one, and what becomes of a job whose asker is lost.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BuildJobs, createBuildClient, type JobOptions, serveBuildJobs } from '../../node/build/index.ts';
import { createSharedJobs, lost } from '../../node/build/shared-jobs.ts';
import { systemClock } from '../../node/host/index.ts';
import type { Mesh } from '../../node/interfaces.ts';
import { type BuildLogLine, type BuildResult, buildProtocol, type UpdateResult } from '../../protocols/build-job.ts';
import { encode } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { createMemoryNetwork, type MemoryNetwork } from '../helpers/memory-mesh.ts';

const drvPath = `/nix/store/${'0'.repeat(32)}-whole.drv`;
const signal = new AbortController().signal;
const update = { tree: 'a'.repeat(40), base: null, pack: null, inputs: [] };

interface Pair {
  /** Tasks whose log the server has ended. */
  readonly ended: string[];
  readonly network: MemoryNetwork;
  readonly asker: Mesh;
  readonly builder: BuildJobs;
}

/** A peer `asker` and a peer `server` with the given builder; what is not given is never called. */
async function createPair(jobs: Partial<BuildJobs>, clock = systemClock): Promise<Pair> {
  const network = createMemoryNetwork();
  const [asker, server] = [network.join('asker'), network.join('server')];
  await asker.start();
  await server.start();
  const unused = () => Promise.reject(new ParleyError('unused', 'the test does not use this job'));
  const ended: string[] = [];
  const taskLog = (task: string) => ({ end: () => void ended.push(task) });
  const builder = { evaluate: unused, build: unused, update: unused, ...jobs };
  serveBuildJobs({ mesh: server, builder, taskLog, clock });
  return { ended, network, asker, builder: createBuildClient({ mesh: asker, clock })('server') };
}

/** Resolves when the options' signal aborts, with its reason. */
function aborted(options: JobOptions): Promise<unknown> {
  return new Promise((resolve) => {
    options.signal.addEventListener('abort', () => resolve(options.signal.reason), { once: true });
  });
}

test('createBuildClient() carries logs, progress and a result larger than a message', async () => {
  const result: UpdateResult = { lockFile: 'x'.repeat(3_000_000), changes: [] };
  const { builder } = await createPair({
    async update(request, options) {
      assert.deepEqual(request, update);
      options.onLog?.({ level: 'info', text: 'one' });
      options.onLog?.({ level: 'build', text: 'two', drvPath });
      options.onProgress?.({ done: 1, expected: 2, running: 1, failed: 0 });
      return result;
    },
  });
  const seen: unknown[] = [];
  const note = (news: unknown) => seen.push(news);
  assert.deepEqual(await builder.update(update, { signal, onLog: note, onProgress: note }), result);
  assert.deepEqual(seen, [
    { level: 'info', text: 'one' },
    { level: 'build', text: 'two', drvPath },
    { done: 1, expected: 2, running: 1, failed: 0 },
  ]);
});

test('createBuildClient() rejects with the error of the builder, its hint included', async () => {
  const error = new ParleyError('build-failed', `building failed: ${'x'.repeat(20_000)}`, { hint: 'Look there.' });
  const { builder } = await createPair({ build: () => Promise.reject(error) });
  await assert.rejects(builder.build({ drvPath }, { signal }), { code: 'build-failed', hint: 'Look there.' });
});

test('serveBuildJobs() ends a job that its asker cancels', async () => {
  const reason = Promise.withResolvers<unknown>();
  const { builder } = await createPair({
    async build(_, options) {
      options.onLog?.({ level: 'info', text: 'started' });
      reason.resolve(await aborted(options));
      throw new ParleyError('cancelled', 'cancelled');
    },
  });
  const abort = new AbortController();
  const build = builder.build({ drvPath }, { signal: abort.signal, onLog: () => abort.abort() });
  await assert.rejects(build, { code: 'cancelled' });
  assert.notEqual(await reason.promise, lost);
});

test('serveBuildJobs() tells a lost asker from one that cancelled', async () => {
  const reason = Promise.withResolvers<unknown>();
  const { network, builder } = await createPair({
    async build(_, options) {
      options.onLog?.({ level: 'info', text: 'started' });
      reason.resolve(await aborted(options));
      throw new ParleyError('cancelled', 'cancelled');
    },
  });
  const build = builder.build({ drvPath }, { signal, onLog: () => network.kill('asker') });
  await assert.rejects(build, { code: 'stream-closed', retryable: true });
  assert.equal(await reason.promise, lost);
});

test('serveBuildJobs() leaves out log lines for a slow reader instead of keeping them all', async () => {
  const written = Promise.withResolvers<void>();
  const { network, builder } = await createPair({
    async update(_, options) {
      for (let line = 0; line < 50_000; line += 1) options.onLog?.({ level: 'info', text: `line ${line}` });
      written.resolve();
      return { lockFile: '', changes: [] };
    },
  });
  network.onMessage = async ({ from, bytes }) => {
    if (from === 'server') await written.promise;
    return bytes;
  };
  const lines: BuildLogLine[] = [];
  await builder.update(update, { signal, onLog: (line) => lines.push(line) });
  assert.ok(lines.length < 1_100, `${lines.length} lines`);
  assert.ok(lines.some((line) => /^4\d{4} lines are left out/.test(line.text)));
  assert.equal(lines.at(-1)?.text, 'line 49999');
});

test('createBuildClient() takes a silent builder for dead, and a busy one not', async () => {
  const clock = createManualClock();
  const started = Promise.withResolvers<void>();
  const { network, builder } = await createPair(
    {
      async build(_, options) {
        started.resolve();
        await aborted(options);
        throw new ParleyError('cancelled', 'cancelled');
      },
    },
    clock,
  );
  let alive = 0;
  const heard = Promise.withResolvers<void>();
  network.onMessage = ({ from, bytes }) => {
    if (from === 'server') alive += 1;
    if (alive === 6) heard.resolve();
    return bytes;
  };
  const build = builder.build({ drvPath }, { signal });
  const outcome = assert.rejects(build, { code: 'builder-silent', retryable: true });
  await started.promise;
  // Half a minute of signs of life, each delivered before time goes on.
  for (let step = 0; step < 6; step += 1) {
    clock.advance(5_000);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await heard.promise;
  network.mute('server');
  for (let step = 0; step < 5; step += 1) {
    clock.advance(5_000);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await outcome;
});

test('serveBuildJobs() survives requests that are no requests', async () => {
  const { asker, builder } = await createPair({ update: async () => ({ lockFile: 'fine', changes: [] }) });
  const requests = [
    new Uint8Array(),
    new Uint8Array([0xff, 0x00]),
    encode({ kind: 'cancel' }),
    encode({ kind: 'job', version: 2, job: { kind: 'build', drvPath } }),
    encode({ kind: 'job', version: 1, job: { kind: 'build', drvPath: '/etc/passwd' } }),
    encode({ kind: 'job', version: 1, job: { kind: 'evaluate', revision: '--help' } }),
    encode({ kind: 'job', version: 1, job: { kind: 'update', ...update, inputs: ['--option'] } }),
    encode({ kind: 'job', version: 1, job: { kind: 'format-disk' } }),
    new Uint8Array(900_000),
  ];
  for (const request of requests) {
    const stream = await asker.open('server', buildProtocol, { signal });
    await stream.send(request);
    await assert.rejects(stream.receive({ signal }), { code: 'stream-closed' });
  }
  assert.equal((await builder.update(update, { signal })).lockFile, 'fine');
});

test('createSharedJobs() keeps a lost job for its successor and ends it after the grace', async () => {
  const clock = createManualClock();
  const kept: string[] = [];
  const jobs = createSharedJobs<BuildResult>(clock, (task, { text }) => kept.push(`${task} ${text}`));
  const ended = Promise.withResolvers<void>();
  let starts = 0;
  const work = async (options: JobOptions): Promise<BuildResult> => {
    starts += 1;
    options.onLog?.({ level: 'info', text: 'early' });
    await aborted(options);
    ended.resolve();
    throw new ParleyError('cancelled', 'ended');
  };
  const [first, second] = [new AbortController(), new AbortController()];
  const firstRun = assert.rejects(jobs.run('key', { signal: first.signal, task: 't1' }, work), { code: 'cancelled' });
  first.abort(lost);
  await firstRun;
  clock.advance(50_000);
  const replayed: string[] = [];
  const secondRun = jobs.run(
    'key',
    { signal: second.signal, task: 't1', onLog: ({ text }) => replayed.push(text) },
    work,
  );
  clock.advance(50_000);
  assert.deepEqual([starts, replayed], [1, ['early']]);
  const secondEnd = assert.rejects(secondRun, { code: 'cancelled' });
  second.abort(lost);
  await secondEnd;
  clock.advance(60_000);
  await ended.promise;
  assert.deepEqual(kept, ['t1 early']);
});

test('serveBuildJobs() leaves the lines of a task to its log on the builder and ends that with the job', async () => {
  const tasks: unknown[] = [];
  const { ended, builder } = await createPair({
    async update(_, options) {
      tasks.push(options.task);
      options.onLog?.({ level: 'info', text: 'for the asker' });
      return { lockFile: '', changes: [] };
    },
  });
  const lines: BuildLogLine[] = [];
  await builder.update(update, { signal, task: 't7', onLog: (line) => lines.push(line) });
  await builder.update(update, { signal, onLog: (line) => lines.push(line) });
  assert.deepEqual([tasks, lines.length, ended], [['t7', undefined], 1, ['t7']]);
});
