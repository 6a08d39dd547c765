// Owns one or more well-formed requests for each protocol id: what tests bend and break. An id without a sample is found by
// the test that uses them.

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

const folder = join(import.meta.dirname, '../../protocols');
const hash = 'a'.repeat(64);
const revision = 'b'.repeat(40);
const storePath = `/nix/store/${'0'.repeat(32)}-system`;
const raft = { version: 1, from: 2, to: 1, term: 1 };
const job = { kind: 'job', version: 1, task: 't1/build-1' };

export const sampleRequests: Readonly<Record<string, readonly object[]>> = {
  '/parley/beat/1': [
    {
      version: 1,
      atMs: 1,
      release: '0.1.0',
      incarnation: 1,
      journalSequence: 1,
      ledgerIndex: 1,
      running: null,
      booted: null,
      activity: null,
      traffic: {},
    },
  ],
  '/parley/blob/1': [
    { version: 1, kind: 'get', hash },
    { version: 1, kind: 'put', hash, bytes: 1_000 },
  ],
  '/parley/build/1': [
    { ...job, job: { kind: 'evaluate', revision, hosts: ['gate'] } },
    { ...job, job: { kind: 'build', drvPath: `${storePath}.drv` } },
    { ...job, job: { kind: 'update', tree: revision, base: null, pack: null, inputs: ['nixpkgs'] } },
    { kind: 'cancel' },
  ],
  '/parley/certificate/1': [
    { version: 1, kind: 'sign', fleet: hash, places: [{ generation: 0, index: 2, chainHash: hash }] },
    { version: 1, kind: 'give', fleet: hash, indexes: [2], after: 1 },
  ],
  '/parley/closure/1': [
    { kind: 'have', unit: 'path', manifest: hash, ordinals: new Uint8Array(4) },
    { kind: 'fetch', unit: 'path', manifest: hash, ordinal: 0, offset: 0 },
    { kind: 'gather', unit: 'path', manifest: hash, ordinal: 0, offset: 0 },
  ],
  '/parley/closure-keep/1': [{ version: 1, manifest: hash }],
  '/parley/confirm/1': [{ version: 1, nonce: new Uint8Array(32), order: 1, closure: storePath, bootId: 'boot' }],
  '/parley/consensus/1': [{ version: 1, messages: [{ ...raft, type: 'heartbeat' }] }],
  '/parley/control/1': [
    {
      kind: 'command',
      request: { version: 1, id: 'forged', command: { name: 'status' }, actor: 'root@evil', follow: false },
    },
    {
      kind: 'command',
      request: {
        version: 1,
        id: 'forged',
        command: { name: 'approve', task: 't1', plan: null },
        actor: 'bob',
        follow: true,
      },
    },
    { kind: 'entry', version: 1, id: 'forged', actor: 'bob', entry: { kind: 'draft-discarded', body: {} } },
  ],
  '/parley/generation/1': [{ version: 1, known: [{ number: 1, hash }] }],
  '/parley/join/1': [
    {
      version: 1,
      proof: { key: new Uint8Array(32), signature: new Uint8Array(64) },
      addresses: [],
      system: 'x86_64-linux',
      builderKey: 'evil-1:AAAA',
      voterKey: 'nobody',
    },
  ],
  '/parley/journal/1': [{ version: 1, incarnation: 1, from: 1 }],
  '/parley/ledger/1': [{ version: 1, from: 2, previous: new Uint8Array(32) }],
  '/parley/liveness/1': [{ sequence: 1, nextWithinMs: 1_000 }],
  '/parley/logs/1': [
    { version: 1, task: 't1', from: 0, follow: false },
    { version: 1, task: 't1', from: 0, follow: true },
  ],
  '/parley/order-question/1': [
    { version: 1, nonce: new Uint8Array(32), host: 'gate', slot: 'system', generation: 0, number: 1, hash },
  ],
  '/parley/project/1': [{ version: 1, want: revision, have: [] }],
  '/parley/snapshot/1': [{ ...raft, snapshot: { index: 1, term: 1 }, bodyBytes: 1_000, bodyHash: hash }],
};

/** All protocol ids that protocols/ exports, sorted. */
export async function protocolIds(): Promise<string[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.ts'));
  const modules: Record<string, unknown>[] = await Promise.all(files.map((file) => import(join(folder, file))));
  const exported = modules.flatMap((module) => Object.values(module));
  const ids = exported.filter(
    (value): value is string => typeof value === 'string' && /^\/parley\/[a-z-]+\/\d+$/.test(value),
  );
  return [...new Set(ids)].toSorted();
}
