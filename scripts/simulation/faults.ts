// Owns what goes wrong in a simulated fleet, and when: crashes anywhere and at chosen writes, power cuts, pauses, cuts in one
// or both directions, lost messages, slow links; and what a fleet does to itself, such as compaction and handovers.

import { decode, type Schema } from '../../protocols/codec.ts';
import { tailRecordSchema, witnessRecordSchema } from '../../protocols/consensus-record.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import type { Chance } from './chance.ts';
import type { Fleet, Peer } from './fleet.ts';

type Fault = (fleet: Fleet, chance: Chance) => void;

/** Each with its weight. */
const faults: readonly (readonly [weight: number, fault: Fault])[] = [
  [20, crashOne],
  [20, crashAtWrite],
  [15, pauseOne],
  [15, cutOneWay],
  [8, partition],
  [10, loseMessages],
  [5, slowDown],
  [18, compactOne],
  [6, transferLeadership],
  [2, restartAll],
  [18, damageLog],
  [5, damageLedger],
  [30, restoreBackup],
  [8, rollBackVoter],
  [5, fillDisk],
];
const totalWeight = faults.reduce((sum, [weight]) => sum + weight, 0);

/** Lets things go wrong from now on. @returns the function that puts everything right again. */
export function startFaults(fleet: Fleet): () => void {
  const chance = fleet.chance('faults');
  let isOver = false;
  fleet.restartMs = () => (chance.happens(0.6) ? chance.between(5, 200) : chance.between(200, 4_000));
  fleet.network.lossRate = chance.happens(0.5) ? 0 : chance.between(0, 0.01);
  const voters = [...fleet.peers.values()].filter(votes);
  if (voters.length > 1 && chance.happens(0.3)) fleet.liar = chance.pick(voters).hardware.identity.peer;
  // Some runs are rough, some give the fleet time to work.
  const periodMs = chance.between(200, 3_000);
  const strike = (): void => {
    if (isOver) return;
    if (fleet.time.nowMs >= fleet.calmUntilMs) pickFault(chance)(fleet, chance);
    fleet.time.schedule(chance.between(0.2, 1.8) * periodMs, undefined, 'the next fault', strike);
  };
  strike();
  return () => {
    isOver = true;
    fleet.crashPoint = () => undefined;
    fleet.restartMs = () => 50;
    fleet.liar = undefined;
    fleet.network.lossRate = 0;
    fleet.network.slownessMs = 0;
    fleet.network.heal();
    for (const { life } of fleet.peers.values()) life?.resume();
    for (const name of fleet.peers.keys()) fleet.boot(name);
  };
}

function pickFault(chance: Chance): Fault {
  let at = chance.below(totalWeight);
  for (const [weight, fault] of faults) {
    if (at < weight) return fault;
    at -= weight;
  }
  return crashOne;
}

/** Leaders are worth more trouble than others. */
function victim(fleet: Fleet, chance: Chance): Peer {
  const leader = fleet.voters()[0]?.life.name;
  const chosen = leader !== undefined && chance.happens(0.4) ? fleet.peers.get(leader) : undefined;
  return chosen ?? chance.pick([...fleet.peers.values()]);
}

function crashOne(fleet: Fleet, chance: Chance): void {
  const { hardware } = victim(fleet, chance);
  const isPowerCut = chance.happens(0.4);
  fleet.count(isPowerCut ? 'powerCuts' : 'crashes');
  fleet.crash(hardware.name, isPowerCut);
}

/** One process dies at one of its next writes. */
function crashAtWrite(fleet: Fleet, chance: Chance): void {
  const { name } = victim(fleet, chance).hardware;
  let left = chance.below(12);
  fleet.crashPoint = (life) => {
    if (life.name !== name) return undefined;
    left -= 1;
    if (left > 0) return undefined;
    fleet.crashPoint = () => undefined;
    return chance.happens(0.5) ? 'before' : 'after';
  };
}

function pauseOne(fleet: Fleet, chance: Chance): void {
  const { life } = victim(fleet, chance);
  if (life === undefined || life.isPaused) return;
  fleet.count('pauses');
  fleet.time.note(`${life.name} stands still`);
  life.isPaused = true;
  fleet.time.schedule(chance.between(100, 4_000), undefined, `${life.name} goes on`, () => life.resume());
}

function cutOneWay(fleet: Fleet, chance: Chance): void {
  const one = victim(fleet, chance).hardware.identity.peer;
  const other = chance.pick([...fleet.peers.values()]).hardware.identity.peer;
  if (one === other) return;
  fleet.count('cuts');
  const [from, to] = chance.happens(0.5) ? [one, other] : [other, one];
  fleet.network.cut(from, to);
  healSoon(fleet, chance);
}

function partition(fleet: Fleet, chance: Chance): void {
  const peers = [...fleet.peers.values()].map(({ hardware }) => hardware.identity.peer);
  const inside = new Set(peers.filter(() => chance.happens(0.5)));
  fleet.count('partitions');
  for (const one of inside) {
    for (const other of peers) {
      if (inside.has(other)) continue;
      fleet.network.cut(one, other);
      fleet.network.cut(other, one);
    }
  }
  healSoon(fleet, chance);
}

function healSoon(fleet: Fleet, chance: Chance): void {
  fleet.time.schedule(chance.between(200, 5_000), undefined, 'all cuts heal', () => fleet.network.heal());
}

function loseMessages(fleet: Fleet, chance: Chance): void {
  const before = fleet.network.lossRate;
  fleet.network.lossRate = 0.1;
  fleet.time.schedule(chance.between(100, 1_500), undefined, 'the network is better again', () => {
    fleet.network.lossRate = Math.min(before, fleet.network.lossRate);
  });
}

function slowDown(fleet: Fleet, chance: Chance): void {
  fleet.count('slowTimes');
  fleet.network.slownessMs = chance.between(30, 400);
  fleet.time.schedule(chance.between(200, 2_000), undefined, 'the network is fast again', () => {
    fleet.network.slownessMs = 0;
  });
}

/** By then a leader has entries that a voter which has just died has not. */
const compactsAfterMs = 500;
/** A checkpoint is certified by then where nothing is wrong. */
const certifiedAfterMs = 400;

/** As the ledger does after many entries: a checkpoint, snapshots, and a log that begins later. */
function compactOne(fleet: Fleet, chance: Chance): void {
  const voters = fleet.voters();
  if (voters.length === 0) return;
  const { life, ledger, consensus } = chance.happens(0.5) ? (voters[0] ?? chance.pick(voters)) : chance.pick(voters);
  const [, ...others] = voters;
  // Who comes back behind the log of the one that leads needs its snapshot.
  const absent = voters[0]?.life === life && others.length > 0 ? chance.pick(others).life : undefined;
  if (absent !== undefined) fleet.crash(absent.name, chance.happens(0.5), chance.between(2, 6) * compactsAfterMs);
  const begin = (): Promise<unknown> =>
    ledger.propose({ kind: 'checkpoint-begun', actor: 'controller', body: {} }, { signal: AbortSignal.timeout(1_000) });
  const compact = async (): Promise<void> => {
    // A checkpoint may go once a newer snapshot is there.
    await ledger.snapshot();
    const { firstIndex, appliedIndex } = consensus.status();
    await consensus.compact(Math.min(ledger.durableIndex(), appliedIndex));
    if (consensus.status().firstIndex > firstIndex) fleet.count('compactions');
  };
  // A voter that does not lead, stops or restores meanwhile does it at another time.
  const soon = (afterMs: number, what: string, act: () => Promise<unknown>): unknown =>
    fleet.time.schedule(afterMs, life, what, () => void act().catch(() => undefined));
  const beginsAfterMs = absent === undefined ? 0 : compactsAfterMs;
  soon(beginsAfterMs, 'begins a checkpoint', begin);
  soon(beginsAfterMs + certifiedAfterMs, 'compacts', compact);
}

function transferLeadership(fleet: Fleet, chance: Chance): void {
  const [leader, ...others] = fleet.voters();
  const target = others.length === 0 ? undefined : chance.pick(others);
  if (leader === undefined || target === undefined) return;
  fleet.time.schedule(0, leader.life, `hands over to ${target.life.name}`, () => {
    leader.consensus.transferLeadership([target.consensus.status().raftId]).then(
      () => fleet.count('transfers'),
      () => undefined,
    );
  });
}

const votes = ({ hardware }: Peer): boolean => hardware.vote.record.raftId > 0;

/** A voter's log lost what was synced, or has a flipped bit. Once a run, and only where others hold all of it. */
function damageLog(fleet: Fleet, chance: Chance): void {
  const inForce = fleet.voters()[0]?.ledger.state().voters ?? [];
  const voters = [...fleet.peers.values()].filter(({ hardware }) => inForce.includes(hardware.vote.record.raftId));
  if (voters.length < 3 || voters.length < inForce.length || fleet.votersAreChanging) return;
  if (fleet.counts.lostTails + fleet.counts.flippedLogs > 0) return;
  const peer = chance.pick(voters);
  const { consensus, witness } = peer.hardware.databases;
  fleet.crash(peer.hardware.name, true);
  if (chance.happens(0.6)) {
    consensus.loseTail(chance);
    if (batchIn(tailRecordSchema, consensus.records.get('tail')) >= batchIn(witnessRecordSchema, witness.record))
      return;
    peer.damage = 'lost acknowledged writes';
    fleet.count('lostTails');
    votesAgain(fleet, peer);
  } else if (consensus.flipBit(chance, chance.pick(['entry/', 'tail', 'snapshot']))) {
    peer.damage = 'some';
    fleet.count('flippedLogs');
    votesAgain(fleet, peer);
  }
}

/** Nobody else's vote is touched until this peer votes again: under a new number, or the old one where it noticed nothing. */
function votesAgain(fleet: Fleet, { hardware }: Peer): void {
  fleet.votersAreChanging = true;
  const since = fleet.time.nowMs;
  const look = (): void => {
    const state = fleet.voters()[0]?.ledger.state();
    const isBack = state?.joint === null && state.voters.includes(hardware.vote.record.raftId);
    const isSettled = isBack && fleet.time.nowMs > since + votesAgainMs && state.learners.length === 0;
    if (isSettled) fleet.votersAreChanging = false;
    else fleet.time.schedule(lookMs, undefined, `looks for the vote of ${hardware.name}`, look);
  };
  look();
}

/** The number of the last batch, by a record that says it; before the first where there is none. */
function batchIn(schema: Schema<{ batch: number }>, bytes: Uint8Array | undefined): number {
  return bytes === undefined ? -1 : decode(schema, bytes, messageBytesMax).batch;
}

/** What a peer keeps of the ledger has a flipped bit; it gets the rest anew. */
function damageLedger(fleet: Fleet, chance: Chance): void {
  const peer = chance.pick([...fleet.peers.values()]);
  if (votes(peer)) return;
  fleet.crash(peer.hardware.name, true);
  const isDone = peer.hardware.databases.ledger.flipBit(chance, chance.pick(['entry/', 'snapshot/']));
  if (isDone) fleet.count('flippedBits');
}

/** How often, and how many times, a fault looks whether its moment has come. */
const lookMs = 100;
const looksMax = 80;
/** By then a leader has reached a voter that was away. */
const toldMs = 1_500;
/** All voters hold the same for moments only. */
const restLookMs = 7;
const restLooksMax = 200;
/** By then a voter that came back has looked at its log. */
const votesAgainMs = 6_000;

/**
 * A member's ledger is put back to a moment at which an order was open, once its device has taken a later one, and for a
 * while nobody can tell it more. The device's floor is not put back.
 */
function restoreBackup(fleet: Fleet, chance: Chance): void {
  const peer = chance.pick([...fleet.peers.values()].filter(({ hardware }) => hardware.name.startsWith('device')));
  const { hardware } = peer;
  const { name, databases } = hardware;
  let backup: { readonly order: number; readonly records: ReadonlyMap<string, Uint8Array> } | undefined;
  let looks = 0;
  const look = (): void => {
    looks += 1;
    const order = peer.running?.ledger.state().orders[name];
    if (backup === undefined && order?.outcome === null && fleet.slotOf(hardware)?.number === order.number)
      backup = { order: order.number, records: new Map(databases.ledger.records) };
    const isOld = backup !== undefined && (fleet.slotOf(hardware)?.number ?? 0) > backup.order;
    if (backup !== undefined && isOld) putBack(backup.records);
    else if (looks < looksMax) fleet.time.schedule(lookMs, undefined, `looks at ${name}`, look);
  };
  const putBack = (records: ReadonlyMap<string, Uint8Array>): void => {
    fleet.count('restoredBackups');
    fleet.crash(name, false);
    databases.ledger.restore(records);
    for (const other of fleet.peers.values()) {
      fleet.network.cut(hardware.identity.peer, other.hardware.identity.peer);
      fleet.network.cut(other.hardware.identity.peer, hardware.identity.peer);
    }
    healSoon(fleet, chance);
  };
  look();
}

/**
 * A voter's disk is put back to an earlier moment, as a virtual machine is: nothing on it tells. Once a run, and only when all
 * others hold what it had acknowledged, and follow the leader in whose term its last votes were.
 */
function rollBackVoter(fleet: Fleet, chance: Chance): void {
  let copy: VoterCopy | undefined;
  let looks = 0;
  const look = (): void => {
    looks += 1;
    // Nobody else's vote is touched from the copy on.
    if (copy === undefined && !fleet.votersAreChanging && fleet.counts.votersRolledBack === 0) {
      copy = copyVoter(fleet, chance);
      fleet.votersAreChanging = copy !== undefined;
    }
    if (copy !== undefined && restsAfter(fleet, copy)) putBack(fleet, copy);
    else if (looks < restLooksMax) fleet.time.schedule(restLookMs, undefined, 'looks at the voters', look);
    else if (copy !== undefined) fleet.votersAreChanging = false;
  };
  look();
}

/** What the disk of a voter that does not lead holds now; undefined where too few vote. */
function copyVoter(fleet: Fleet, chance: Chance) {
  const [leader, ...rest] = fleet.voters();
  if (leader === undefined) return undefined;
  const { voters } = leader.ledger.state();
  const others = rest.filter(({ consensus }) => voters.includes(consensus.status().raftId));
  if (voters.length < 3 || others.length < voters.length - 1) return undefined;
  const peer = fleet.peers.get(chance.pick(others).life.name);
  if (peer === undefined) return undefined;
  const { vote, databases } = peer.hardware;
  const copies = [databases.ledger, databases.consensus, databases.witness].map((database) => ({
    database,
    records: new Map(database.records),
  }));
  return { peer, copies, vote: vote.record, lastIndex: leader.consensus.status().lastIndex };
}

type VoterCopy = NonNullable<ReturnType<typeof copyVoter>>;

function putBack(fleet: Fleet, { peer, copies, vote }: VoterCopy): void {
  fleet.count('votersRolledBack');
  fleet.crash(peer.hardware.name, true);
  for (const { database, records } of copies) database.restore(records);
  peer.hardware.vote.record = vote;
  peer.damage = 'put back';
  // Its leader is to lead still: another one knows nothing of what it had acknowledged.
  fleet.calmUntilMs = fleet.time.nowMs + toldMs;
  fleet.network.heal();
  fleet.boot(peer.hardware.name);
  votesAgain(fleet, peer);
}

/** True when the voter of a copy follows, and all voters in force hold the same and more than then, and the leader has its word for that. */
function restsAfter(fleet: Fleet, { peer, vote, lastIndex: then }: VoterCopy): boolean {
  const voters = fleet.voters();
  const [leader] = voters;
  if (leader === undefined || peer.running === undefined || peer.hardware.vote.record.raftId !== vote.raftId)
    return false;
  const { raftId, role, term, lastIndex, commitIndex, progress = [] } = leader.consensus.status();
  const { voters: inForce, joint } = leader.ledger.state();
  if (role !== 'leader' || raftId === vote.raftId || lastIndex <= then || commitIndex < lastIndex) return false;
  if (joint !== null || !inForce.includes(vote.raftId)) return false;
  if (progress.find((follower) => follower.raftId === vote.raftId)?.match !== lastIndex) return false;
  const statuses = voters.map(({ consensus }) => consensus.status());
  return inForce.every((voter) => {
    const status = statuses.find((each) => each.raftId === voter);
    return status?.term === term && status.leader === raftId && status.lastIndex === lastIndex;
  });
}

/** A disk is full for a while: whatever is to be written fails, and may be there all the same. */
function fillDisk(fleet: Fleet, chance: Chance): void {
  const { hardware } = victim(fleet, chance);
  fleet.count('fullDisks');
  const databases = Object.values(hardware.databases);
  for (const database of databases) database.isFull = true;
  fleet.time.schedule(chance.between(100, 3_000), undefined, `the disk of ${hardware.name} has room`, () => {
    for (const database of databases) database.isFull = false;
  });
}

/** The power of a whole site, or of everything. */
function restartAll(fleet: Fleet): void {
  fleet.count('fleetRestarts');
  for (const name of fleet.peers.keys()) fleet.crash(name, true);
}
