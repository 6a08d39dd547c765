// Owns one real peer for tests: founded with the real program in a fresh folder, a process of its own, a builder, voter and
// member at once, so that it serves every protocol.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { createProcessRunner } from '../../node/host/index.ts';
import { foundFleet } from '../../scripts/lib/demo-fleet.ts';
import { logger } from '../mesh/fixtures.ts';

export interface TestedPeer {
  readonly peer: string;
  readonly socket: string;
  readonly stateFolder: string;
  /** Of the process that started first. @throws when that ended. */
  pid(): number;
  /** Asks for its status. @throws when it does not answer, or another process does. */
  answers(when: string): Promise<void>;
}

/** Starts a fleet of one; it ends with the test. */
export async function startPeer(t: TestContext): Promise<TestedPeer> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-peer-'));
  const runner = createProcessRunner({ logger });
  const init = { folder, runner, onProgress: () => undefined, signal: t.signal };
  const fleet = await foundFleet(init, [{ name: 'gate', site: 'home', roles: ['member', 'voter', 'builder'] }]);
  t.after(async () => {
    await fleet.stop();
    await rm(folder, { recursive: true, force: true });
  });
  const [process] = fleet.peers;
  const [socket] = fleet.sockets();
  const first = process?.pid();
  assert.ok(process !== undefined && socket !== undefined && first !== undefined);
  const view = await fleet.status(t.signal);
  const peer = view.peers.find(({ name }) => name === 'gate')?.peer;
  assert.ok(peer !== undefined);
  const pid = () => {
    assert.equal(process.pid(), first, `the peer ended: ${process.crashed()}`);
    return first;
  };
  return {
    peer,
    socket,
    stateFolder: process.stateFolder,
    pid,
    async answers(when) {
      pid();
      const status = await fleet.status(AbortSignal.timeout(10_000));
      assert.equal(status.controller, 'gate', when);
    },
  };
}
