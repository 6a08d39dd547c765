// How a running peer follows what the ledger says about its vote.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { foundFleet } from '../../node/enrolment.ts';
import { createVoteFolder } from '../../node/wiring/vote-folder.ts';
import type { VoteTurn } from '../../node/wiring/vote-plan.ts';
import { createVoteWatch } from '../../node/wiring/vote-watch.ts';
import type { VoterSet } from '../../protocols/certificate.ts';
import { check } from '../../protocols/codec.ts';
import { configSchema } from '../../protocols/config.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { createLedgerScript, type LedgerScript, peerIdOf, voterKeyOf } from '../helpers/ledger-script.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { logger } from '../mesh/fixtures.ts';

const config = check(configSchema, { version: 1, listen: ['/ip4/127.0.0.1/tcp/4400'] });

/** The state folder of a voter. */
async function voterFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-vote-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const stateFolder = join(folder, 'state');
  await foundFleet({ stateFolder, config, name: 'gate', site: 'home', nowMs: 1_700_000_000_000 });
  return stateFolder;
}

const updated = (name: string) => ({
  ...{ peer: peerIdOf(name), addresses: [], system: 'x86_64-linux' },
  voterKey: voterKeyOf(name),
});

interface WatchedLedger {
  state(): LedgerState;
  onApplied(listener: () => void): () => void;
  certification(): { certifiedIndex(): number; voterSetBefore(index: number): VoterSet | undefined };
  newestVoterSet(): VoterSet;
  onVoterSetProven(listener: () => void): () => void;
  watchVoterSet(): () => Promise<void>;
  tell(): void;
  /** Somebody proves these voters to whoever watches. */
  prove(set: VoterSet): void;
}

/** A switch that is under way until its end, and how often somebody has asked. */
function createSwitch() {
  let isUnderWay = true;
  let looks = 0;
  return {
    isBusy() {
      looks += 1;
      return isUnderWay;
    },
    looks: () => looks,
    end() {
      isUnderWay = false;
    },
  };
}

function ledgerOf(script: LedgerScript): WatchedLedger {
  const listeners = new Set<() => void>();
  const watchers = new Set<object>();
  let proven: VoterSet | undefined;
  const tell = (): void => {
    for (const listener of listeners) listener();
  };
  const add = (listener: () => void) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };
  return {
    state: script.state,
    certification: () => ({ certifiedIndex: () => Number.POSITIVE_INFINITY, voterSetBefore: () => undefined }),
    newestVoterSet: () => proven ?? script.state().voterSet,
    watchVoterSet() {
      const watcher = {};
      watchers.add(watcher);
      return async () => void watchers.delete(watcher);
    },
    prove(set) {
      if (watchers.size === 0) return;
      proven = set;
      tell();
    },
    ...{ onApplied: add, onVoterSetProven: add, tell },
  };
}

test('createVoteWatch() makes a key, tells it, and turns once the device rests', async (t) => {
  const stateFolder = await voterFolder(t);
  const folder = createVoteFolder(stateFolder);
  await folder.carryOut({ kind: 'give-up', roles: ['member'] });
  const script = createLedgerScript();
  script.join('web1');
  const ledger = ledgerOf(script);
  const clock = createManualClock();
  const told = Promise.withResolvers<string>();
  let busy = true;
  const asked = Promise.withResolvers<void>();
  const isBusy = () => {
    asked.resolve();
    return busy;
  };
  const watch = createVoteWatch({ self: peerIdOf('web1'), raftId: 0, generation: 0 })({
    ...{ folder, ledger, clock, logger, isBusy },
    hasLeader: () => true,
    announceKey: (key) => told.resolve(key),
  });
  await watch.start();
  script.accept('voter-added', { peer: peerIdOf('web1'), replaces: null });
  ledger.tell();
  const key = await told.promise;
  assert.equal(await folder.key(), key);
  script.accept('member-updated', { ...updated('web1'), voterKey: key });
  ledger.tell();
  await asked.promise;
  busy = false;
  const looking = setInterval(() => clock.advance(1_000), 5);
  t.after(() => clearInterval(looking));
  assert.deepEqual(await watch.turned, { kind: 'take-up', raftId: 2, roles: ['member', 'voter'] });
  await watch.stop();
});

for (const [what, leaves] of [
  ['voter-removed', false],
  ['member-removed', true],
  [null, false],
] as const) {
  test(`createVoteWatch() learns from others that it is out after ${what ?? 'what it has missed'}, when nobody sends it entries`, async (t) => {
    const stateFolder = await voterFolder(t);
    const script = createLedgerScript();
    for (const name of ['n2', 'n3']) script.join(name, ['member', 'voter']);
    script.configure({ voters: [1, 2, 3] });
    if (what !== null) script.accept(what, { peer: peerIdOf('n3') });
    const ledger = ledgerOf(script);
    const clock = createManualClock();
    const watch = createVoteWatch({ self: peerIdOf('n3'), raftId: 3, generation: 0 })({
      ...{ folder: createVoteFolder(stateFolder), ledger, clock, logger },
      ...{ hasLeader: () => what !== null, isBusy: () => false, announceKey: () => assert.fail('it has a key') },
    });
    await watch.start();
    const { voterSet } = script.state();
    const proving = setInterval(() => {
      clock.advance(500);
      ledger.prove({ ...voterSet, index: voterSet.index + 9, voters: voterSet.voters.slice(0, 2) });
    }, 5);
    t.after(() => clearInterval(proving));
    assert.deepEqual(await watch.turned, leaves ? { kind: 'leave' } : { kind: 'give-up', roles: ['member'] });
    await watch.stop();
  });
}

test('createVoteWatch() gives no vote up before a majority has certified that it is over', async (t) => {
  const stateFolder = await voterFolder(t);
  const script = createLedgerScript();
  for (const name of ['n2', 'n3']) script.join(name, ['member', 'voter']);
  script.configure({ voters: [1, 2, 3] });
  script.accept('voter-removed', { peer: peerIdOf('n3') });
  script.configure({ voters: [1, 2] });
  let certified = 1;
  let isEarly = false;
  let looks = 0;
  const folder = createVoteFolder(stateFolder);
  const key = (): Promise<string | null> => {
    looks += 1;
    return folder.key();
  };
  const isBusy = () => {
    isEarly ||= certified === 1;
    return false;
  };
  const clock = createManualClock();
  const watch = createVoteWatch({ self: peerIdOf('n3'), raftId: 3, generation: 0 })({
    ...{ folder: { ...folder, key }, clock, logger },
    ...{ hasLeader: () => true, isBusy, announceKey: () => undefined },
    ledger: {
      ...ledgerOf(script),
      certification: () => ({ certifiedIndex: () => certified, voterSetBefore: () => undefined }),
    },
  });
  await watch.start();
  while (looks < 3) {
    clock.advance(1_000);
    await new Promise((resolve) => setImmediate(resolve));
  }
  certified = script.state().index;
  const looking = setInterval(() => clock.advance(1_000), 5);
  t.after(() => clearInterval(looking));
  assert.equal((await watch.turned).kind, 'give-up');
  assert.equal(isEarly, false);
  await watch.stop();
});

test('createVoteWatch() needs no more proof than of the change that took its vote, whatever followed', async (t) => {
  const script = createLedgerScript();
  for (const name of ['n2', 'n3']) script.join(name, ['voter']);
  script.configure({ voters: [1, 2, 3] });
  const counting = script.state().voterSet;
  script.accept('voter-removed', { peer: peerIdOf('n3') });
  script.configure({ voters: [1, 2], learners: [3] });
  const taken = script.state().voterSet;
  script.configure({ voters: [1, 2] });
  const voterSetBefore = (index: number) => [taken, counting].find((set) => set.index < index);
  const watch = createVoteWatch({ self: peerIdOf('n3'), raftId: 3, generation: 0 })({
    ...{ folder: createVoteFolder(await voterFolder(t)), clock: createManualClock(), logger },
    ...{ hasLeader: () => true, isBusy: () => false, announceKey: () => undefined },
    ledger: { ...ledgerOf(script), certification: () => ({ certifiedIndex: () => taken.index, voterSetBefore }) },
  });
  await watch.start();
  assert.equal((await watch.turned).kind, 'give-up');
  await watch.stop();
});

test('createVoteWatch() asks others whether it still votes once it had no leader for a while', async (t) => {
  const stateFolder = await voterFolder(t);
  const script = createLedgerScript();
  const ledger = ledgerOf(script);
  const clock = createManualClock();
  const asked = Promise.withResolvers<void>();
  const watch = createVoteWatch({ self: peerIdOf('n1'), raftId: 1, generation: 0 })({
    ...{ folder: createVoteFolder(stateFolder), clock, logger },
    ...{ hasLeader: () => false, isBusy: () => false, announceKey: () => undefined },
    ledger: {
      ...ledger,
      watchVoterSet: () => {
        assert.ok(clock.monotonicMs() >= 5_000, `after ${clock.monotonicMs()} ms`);
        asked.resolve();
        return async () => undefined;
      },
    },
  });
  await watch.start();
  const looking = setInterval(() => clock.advance(500), 5);
  t.after(() => clearInterval(looking));
  await asked.promise;
  await watch.stop();
});

test('createVoteWatch() begins anew as a member where its raft id counts nowhere and no leader is heard', async (t) => {
  const stateFolder = await voterFolder(t);
  const clock = createManualClock();
  // A ledger that is behind the raft id, which was dropped meanwhile.
  const watch = createVoteWatch({ self: peerIdOf('n1'), raftId: 6, generation: 0 })({
    ...{ folder: createVoteFolder(stateFolder), clock, logger, ledger: ledgerOf(createLedgerScript()) },
    ...{ hasLeader: () => false, isBusy: () => false, announceKey: () => undefined },
  });
  await watch.start();
  const looking = setInterval(() => clock.advance(1_000), 5);
  t.after(() => clearInterval(looking));
  assert.equal((await watch.turned).kind, 'give-up');
  assert.ok(clock.monotonicMs() >= 30_000, `after ${clock.monotonicMs()} ms`);
  await watch.stop();
});

/** A voter's watch that hears no leader; `look` lets it look at least so often, a second apart. */
async function leaderless(
  t: TestContext,
  parts: { readonly raftId: number; readonly script: LedgerScript; readonly isBusy: () => boolean },
) {
  const folder = createVoteFolder(await voterFolder(t));
  const clock = createManualClock();
  let looks = 0;
  const key = (): Promise<string | null> => {
    looks += 1;
    return folder.key();
  };
  const watch = createVoteWatch({ self: peerIdOf('n2'), raftId: parts.raftId, generation: 0 })({
    ...{ folder: { ...folder, key }, clock, logger, ledger: ledgerOf(parts.script) },
    ...{ hasLeader: () => false, isBusy: parts.isBusy, announceKey: () => undefined },
  });
  await watch.start();
  t.after(() => watch.stop());
  let turned: VoteTurn | undefined;
  void watch.turned.then((turn) => {
    turned = turn;
  });
  return {
    turned: () => turned,
    async look(count: number) {
      const enough = looks + count;
      while (looks < enough) {
        clock.advance(1_000);
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
  };
}

test('createVoteWatch() lets a learner wait for a leader as long as consensus counts on it', async (t) => {
  const script = createLedgerScript();
  script.join('n2', ['voter']);
  script.configure({ voters: [1], learners: [2] });
  const watch = await leaderless(t, { raftId: 2, script, isBusy: () => false });
  await watch.look(60);
  assert.equal(watch.turned(), undefined, 'what it has learnt would be lost');
  script.configure({ voters: [1] });
  await watch.look(2);
  assert.deepEqual(watch.turned(), { kind: 'give-up', roles: ['voter'] });
});

test('createVoteWatch() interrupts no switch where its raft id counts nowhere', async (t) => {
  const work = createSwitch();
  const watch = await leaderless(t, { raftId: 6, script: createLedgerScript(), isBusy: work.isBusy });
  await watch.look(60);
  assert.equal(watch.turned(), undefined, 'a switch would be undone');
  work.end();
  await watch.look(2);
  assert.equal(watch.turned()?.kind, 'give-up');
});

test('damaged() of a peer that runs waits until no switch is under way, and of one that starts does not', async (t) => {
  const clock = createManualClock();
  const folder = createVoteFolder(await voterFolder(t));
  for (const runs of [false, true]) {
    const work = createSwitch();
    const watch = createVoteWatch({ self: peerIdOf('n1'), raftId: 1, generation: 0 })({
      ...{ folder, ledger: ledgerOf(createLedgerScript()), clock, logger },
      ...{ hasLeader: () => true, announceKey: () => undefined, isBusy: work.isBusy },
    });
    if (runs) await watch.start();
    watch.damaged(new Error('its disk is that of yesterday'));
    while (runs && work.looks() < 3) {
      clock.advance(1_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (runs) assert.equal(await Promise.race([watch.turned, undefined]), undefined, 'a switch would be undone');
    work.end();
    const looking = setInterval(() => clock.advance(1_000), 5);
    assert.deepEqual(await watch.turned, { kind: 'set-aside', reason: 'its disk is that of yesterday' });
    clearInterval(looking);
    await watch.stop();
  }
});

test('turn() waits until no switch is under way, and keeps to what was said first', async (t) => {
  const clock = createManualClock();
  const work = createSwitch();
  const watch = createVoteWatch({ self: peerIdOf('n1'), raftId: 1, generation: 0 })({
    ...{ folder: createVoteFolder(await voterFolder(t)), ledger: ledgerOf(createLedgerScript()), clock, logger },
    ...{ hasLeader: () => true, announceKey: () => undefined, isBusy: work.isBusy },
  });
  let turned: VoteTurn | undefined;
  void watch.turned.then((turn) => {
    turned = turn;
  });
  await watch.start();
  const first = { kind: 'new-generation', records: [], contacts: [] } as const;
  watch.turn(first);
  watch.turn({ kind: 'freeze', reason: 'two of them' });
  while (work.looks() < 3) {
    clock.advance(1_000);
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(turned, undefined, 'a switch would be undone');
  work.end();
  const looking = setInterval(() => clock.advance(1_000), 5);
  t.after(() => clearInterval(looking));
  assert.deepEqual(await watch.turned, first);
  await watch.stop();
});
