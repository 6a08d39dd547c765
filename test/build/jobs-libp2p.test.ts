// Shows jobs over the real mesh: results larger than a message, cancellation, and a builder that goes away.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type BuildJobs, createBuildClient, serveBuildJobs } from '../../node/build/index.ts';
import { systemClock } from '../../node/host/index.ts';
import type { Mesh } from '../../node/interfaces.ts';
import type { UpdateResult } from '../../protocols/build-job.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { newPeer, startTogether } from '../mesh/fixtures.ts';

const drvPath = `/nix/store/${'0'.repeat(32)}-whole.drv`;
const signal = new AbortController().signal;

async function createPair(t: TestContext, jobs: Partial<BuildJobs>): Promise<{ builder: BuildJobs; server: Mesh }> {
  const [asker, server] = [newPeer(t), newPeer(t)];
  await startTogether([asker, server]);
  const unused = () => Promise.reject(new ParleyError('unused', 'the test does not use this job'));
  const builder = { evaluate: unused, build: unused, update: unused, ...jobs };
  serveBuildJobs({ mesh: server.mesh, builder, taskLog: () => ({ end: () => {} }), clock: systemClock });
  return {
    builder: createBuildClient({ mesh: asker.mesh, clock: systemClock })(server.mesh.self),
    server: server.mesh,
  };
}

test('createBuildClient() over libp2p carries a result larger than a message', async (t) => {
  const result: UpdateResult = { lockFile: 'lock '.repeat(500_000), changes: [] };
  const { builder } = await createPair(t, { update: async () => result });
  const request = { tree: 'a'.repeat(40), base: null, pack: null, inputs: ['channel'] };
  assert.deepEqual(await builder.update(request, { signal }), result);
});

test('createBuildClient() over libp2p cancels the job that runs at the builder', async (t) => {
  const ended = Promise.withResolvers<void>();
  const { builder } = await createPair(t, {
    build: (_, options) =>
      new Promise((_resolve, reject) => {
        options.signal.addEventListener('abort', () => {
          ended.resolve();
          reject(new ParleyError('cancelled', 'the job was cancelled'));
        });
        options.onLog?.({ level: 'info', text: 'started' });
      }),
  });
  const abort = new AbortController();
  const build = builder.build({ drvPath }, { signal: abort.signal, onLog: () => abort.abort() });
  await assert.rejects(build, { code: 'cancelled' });
  await ended.promise;
});

test('createBuildClient() over libp2p rejects, to be tried again, when the builder goes away', async (t) => {
  const { builder, server } = await createPair(t, {
    build: (_, options) =>
      new Promise(() => {
        options.onLog?.({ level: 'info', text: 'started' });
      }),
  });
  let stopped: Promise<void> | undefined;
  const build = builder.build(
    { drvPath },
    {
      signal,
      onLog: () => {
        stopped = server.stop();
      },
    },
  );
  await assert.rejects(build, { name: 'ParleyError', retryable: true });
  await stopped;
});
