// Owns one run: a fleet with its faults and its people for a while, then peace in which it must find itself again, then the
// verdict. Everything follows from the seed.

import { numberedKey } from '../../node/keys.ts';
import { namedBlobs } from '../../node/ledger/blob-keeper.ts';
import { isOpen } from '../../protocols/ledger-rules.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { judge as judgeHistory } from '../conformance/linearizability.ts';
import { registerModel } from '../conformance/models.ts';
import { createChance } from './chance.ts';
import { createClient, History } from './client.ts';
import type { Counts } from './counts.ts';
import { startFaults } from './faults.ts';
import { Fleet, identityOf } from './fleet.ts';
import { grownFleet, type Shape } from './growth.ts';
import type { Hardware } from './peer.ts';
import { startPeople } from './people.ts';

/** How long things go wrong unless told otherwise. */
const usualTroubleMs = 15_000;
/** How long the fleet may then take until everything that was begun has ended. */
const peaceMs = 180_000;
/** How often it is looked at in that time, and how long it must have been at rest. */
const lookMs = 250;
const restsMin = 3;
/** A fleet that is not at rest is given another entry after so many looks. */
const looksPerWord = 16;
/** Everybody runs again within this, a voter with a damaged log included. */
const repairMs = 20_000;
/** Every command ends within a client's patience. */
const lastAnswersMs = 12_000;

export interface RunOptions {
  readonly seed: number;
  /** How long things go wrong; seeds repeat only at the same length. */
  readonly troubleMs?: number;
  /** Gets each event of the run, for people. */
  readonly onEvent?: (line: string) => void;
}

export interface RunResult {
  readonly seed: number;
  readonly violations: readonly string[];
  readonly counts: Counts;
  readonly acknowledgedCommands: number;
  readonly operations: number;
  readonly entries: number;
  readonly events: number;
  readonly simulatedMs: number;
  /** Equal for equal runs. */
  readonly fingerprint: number;
}

export async function runSeed({ seed, troubleMs = usualTroubleMs, onEvent }: RunOptions): Promise<RunResult> {
  const grown = await grownFleet(shapeOf(seed));
  const fleet = new Fleet(seed, grown.genesis);
  const { time, judge, counts } = fleet;
  const chance = fleet.chance('fleet');
  time.onEvent = onEvent;
  fleet.driftMax = chance.happens(0.5) ? 0.02 : 0.3;
  for (const entry of grown.entries) judge.applied('the growing fleet', entry);
  for (const plan of grown.peers) fleet.add(plan);
  for (const name of fleet.peers.keys()) fleet.boot(name);
  const history = new History();
  const stopFaults = startFaults(fleet);
  const stopPeople = startPeople(fleet, history);
  await time.run(troubleMs);
  stopFaults();
  await time.run(time.nowMs + repairMs, () => fleet.expected().every(({ running }) => running !== undefined));
  let areDone = false;
  const done = stopPeople().then(() => {
    areDone = true;
  });
  await time.run(time.nowMs + lastAnswersMs, () => areDone);
  if (areDone) await done;
  else judge.accuse('a client still waits for an answer');
  await waitForRest(fleet);
  conclude(fleet, history);
  return {
    ...{ seed, violations: judge.violations, counts, acknowledgedCommands: judge.acknowledgedCount },
    ...{ operations: history.operations.length, entries: judge.lastIndex, events: time.happened },
    ...{ simulatedMs: time.nowMs, fingerprint: time.fingerprint },
  };
}

/** Most fleets have three voters; one and five are shapes with troubles of their own. */
function shapeOf(seed: number): Shape {
  const chance = createChance(seed).fork('shape');
  const voters = chance.pick([1, 3, 3, 3, 3, 5, 5]);
  return { voters, members: 2 + chance.below(2) };
}

/** Waits until nothing is left to do, and says what is missing when that takes too long. */
async function waitForRest(fleet: Fleet): Promise<void> {
  const client = createClient('closer', fleet, new History(), fleet.chance('closer'));
  let rests = 0;
  let looks = 0;
  let isOver = false;
  const look = (): void => {
    const reason = unrest(fleet);
    if (reason !== undefined && fleet.time.onEvent !== undefined) fleet.time.onEvent(`           no rest: ${reason}`);
    rests = reason === undefined ? rests + 1 : 0;
    isOver = rests >= restsMin;
    looks += 1;
    // What was refused is certified by nobody: members hear of it with the entry after it.
    if (!isOver && looks % looksPerWord === 0) void client.write(identityOf('device1').peer, `last-${looks}`);
    if (!isOver) fleet.time.schedule(lookMs, undefined, 'looks for rest', look);
  };
  look();
  await fleet.time.run(fleet.time.nowMs + peaceMs, () => isOver);
  if (isOver) return;
  fleet.judge.accuse(`no rest after all faults have ended: ${unrest(fleet) ?? 'it comes and goes'}`);
  for (const { life, consensus } of fleet.voters())
    fleet.time.note(`${life.name} ${JSON.stringify(consensus.status())}`);
}

/** What keeps the fleet from being at rest. */
function unrest(fleet: Fleet): string | undefined {
  const expected = fleet.expected();
  const down = expected.find(({ running }) => running === undefined);
  if (down !== undefined) return `${down.hardware.name} does not run`;
  const [leader] = fleet.voters();
  if (leader?.consensus.status().role !== 'leader') return 'nobody leads';
  const states = expected.flatMap(({ hardware, running }) =>
    running === undefined ? [] : [{ name: hardware.name, state: running.ledger.state() }],
  );
  const { index } = leader.ledger.state();
  const behind = states.find(({ state }) => state.index !== index);
  if (behind !== undefined) return `${behind.name} is at ${behind.state.index}, the leader at ${index}`;
  const unproven = expected.find(({ hardware }) => lacksProof(fleet, hardware));
  if (unproven !== undefined) return `${unproven.hardware.name} cannot prove every change of voters`;
  return openWork(leader.ledger.state(), new Set(fleet.peers.keys()));
}

/** Whoever serves the ledger leads others over all changes of voters, from the first on. */
function lacksProof({ judge }: Fleet, { databases }: Hardware): boolean {
  const { records } = databases.ledger;
  const changes = judge.entries.filter(({ type }) => type === 'configuration');
  return changes.some(({ index }) => !records.has(numberedKey('configuration/', index)));
}

/** An order or task that has not ended and waits for no person, or a peer that does not vote yet. */
function openWork(state: LedgerState, started: ReadonlySet<string>): string | undefined {
  const order = Object.values(state.orders).find(({ outcome }) => outcome === null);
  if (order !== undefined)
    return `${order.cancelled ? 'cancelled ' : ''}order ${order.number} of ${order.host} has not ended`;
  const task = Object.values(state.tasks).find((each) => isOpen(each) && !waitsForPerson(each.id, state));
  if (task !== undefined) return `task ${task.id} has not ended: ${task.stage}`;
  const wanted = Object.values(state.members).filter(({ roles, name }) => roles.includes('voter') && started.has(name));
  const missing = wanted.find(({ raftId }) => !state.voters.includes(raftId));
  const leaving = Object.values(state.members).find((member) => member.leaving === true);
  if (leaving !== undefined) return `${leaving.name} is still to leave`;
  return missing === undefined && state.joint === null ? undefined : `${missing?.name} does not vote`;
}

function waitsForPerson(id: string, state: LedgerState): boolean {
  const task = state.tasks[id];
  return task?.stage === 'approval' || (task?.parent != null && state.tasks[task.parent]?.stage === 'approval');
}

function conclude(fleet: Fleet, history: History): void {
  const { judge, counts } = fleet;
  for (const { hardware, running } of fleet.expected()) {
    if (running === undefined) continue;
    const state = running.ledger.state();
    judge.concludes(hardware.name, state);
    judge.compare(hardware.name, state.index, running.ledger.stateHash());
  }
  const last = fleet.voters()[0]?.ledger.state();
  if (last !== undefined) tallyOrders(last, counts);
  if (last !== undefined) judgeBlobs(fleet, last);
  const verdict = judgeHistory(registerModel, history.operations);
  if (verdict !== 'linearizable') judge.accuse(`what the clients saw is ${verdict}`);
}

/** What the ledger names outlives the voters that had it first. The packs of simulated commits are only names. */
function judgeBlobs(fleet: Fleet, state: LedgerState): void {
  const packs = new Set([state.draft?.pack, ...Object.values(state.tasks).map(({ commit }) => commit?.pack)]);
  const disks = fleet.expected().map(({ hardware }) => hardware.blobs.blobs);
  const lost = [...namedBlobs(state)].filter((hash) => !packs.has(hash) && !disks.some((blobs) => blobs.has(hash)));
  if (lost.length > 0)
    fleet.judge.accuse(`no member has ${lost.length} of the blobs that the ledger names: ${lost[0]}`);
}

function tallyOrders(state: LedgerState, counts: Counts): void {
  for (const task of Object.values(state.tasks)) {
    if (task.type === 'deploy') counts.deploys += 1;
    if (task.type !== 'deploy-device' || task.order === null) continue;
    counts.ordersGiven += 1;
    if (task.outcome === 'succeeded' || task.outcome === 'degraded') counts.ordersSucceeded += 1;
    else if (task.outcome === 'superseded') counts.ordersSuperseded += 1;
    else if (task.outcome === 'rolled-back') counts.ordersUndone += 1;
  }
}
