// Owns what people do about who votes and who belongs to a simulated fleet, as `voters add|remove|replace` and `peers remove`
// do it: one change at a time, waited for until everybody has heard of it, however long faults hold it up; but a removal may be
// taken back while it is under way.

import type { EntryDraft } from '../../protocols/ledger-entries.ts';
import { votingMembers } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Member } from '../../protocols/ledger-state.ts';
import type { Chance } from './chance.ts';
import type { Client } from './client.ts';
import type { Counts } from './counts.ts';
import type { Fleet } from './fleet.ts';
import type { Habit } from './people.ts';

/** More make a run slow and show nothing new. */
const votersMax = 5;
const looksMax = 10;
const lookMs = 100;
/** A removal takes about as long. */
const hasteMs = 500;
/** By then a command of which nobody knows has come, or is lost. */
const stragglerMs = 8_000;

type Change = readonly [count: keyof Counts, draft: EntryDraft];

/** Devices with registers and orders stay what they are. */
const isMovable = ({ name }: Member): boolean => !name.startsWith('device');

function chooseChange(state: LedgerState, chance: Chance): Change | undefined {
  const movable = Object.values(state.members).filter((member) => isMovable(member) && member.leaving !== true);
  const voting = votingMembers(state).filter(isMovable);
  const spare = movable.filter(({ roles }) => !roles.includes('voter'));
  const changes: Change[] = [];
  const add = (count: keyof Counts, draft: Pick<EntryDraft, 'kind' | 'body'>): void =>
    void changes.push([count, { actor: 'root@gate', ...draft } as EntryDraft]);
  const candidate = spare.length > 0 ? chance.pick(spare).peer : undefined;
  const old = voting.length > 0 ? chance.pick(voting).peer : undefined;
  if (candidate !== undefined && voting.length < votersMax)
    add('voterAdditions', { kind: 'voter-added', body: { peer: candidate, replaces: null } });
  if (candidate !== undefined && old !== undefined)
    add('voterReplacements', { kind: 'voter-added', body: { peer: candidate, replaces: old } });
  if (old !== undefined && voting.length > 1) add('voterRemovals', { kind: 'voter-removed', body: { peer: old } });
  const leaving = movable.filter(({ roles }) => voting.length > 1 || !roles.includes('voter'));
  if (leaving.length > 0 && movable.length > 2)
    add('peerRemovals', { kind: 'member-removed', body: { peer: chance.pick(leaving).peer } });
  return changes.length === 0 ? undefined : chance.pick(changes);
}

/** Consensus counts whom the ledger says, and nobody is on the way out. */
function isSettled(state: LedgerState): boolean {
  if (state.joint !== null || state.learners.length > 0) return false;
  const members = Object.values(state.members);
  const wanted = votingMembers(state).map(({ raftId }) => raftId);
  const isSame = wanted.length === state.voters.length && wanted.every((raftId) => state.voters.includes(raftId));
  return isSame && members.every(({ leaving, replaces }) => leaving !== true && replaces === undefined);
}

/** Whether what was asked for has been settled: in the leader's eyes, and past the entry, or past the time at which it may still come. */
async function settled({ fleet, client }: Keeping, since: Since): Promise<boolean> {
  for (let looks = 0; looks < looksMax; looks += 1) {
    await client.pause(lookMs);
    const [leader] = fleet.voters();
    if (leader?.consensus.status().role !== 'leader' || fleet.time.nowMs < since.timeMs) continue;
    const state = leader.ledger.state();
    if (state.index >= since.index && isSettled(state) && haveAllHeard(fleet, state)) return true;
  }
  return false;
}

/** Nobody is two changes behind: a peer that knows none of those who vote now lets none of them in, and is stranded. */
function haveAllHeard(fleet: Fleet, { voterSet }: LedgerState): boolean {
  return fleet.expected().every(({ running }) => running?.ledger.state().voterSet.index === voterSet.index);
}

/** Gives a command. @returns what is to be past before the change can have been settled. */
async function order({ fleet, client }: Keeping, [count, draft]: Change, id: string): Promise<Since> {
  const answer = await client.command(draft, id);
  const isDone = answer !== undefined && 'value' in answer;
  if (isDone) fleet.count(count);
  const timeMs = fleet.time.nowMs + (answer === undefined ? stragglerMs : 0);
  return { index: isDone ? answer.value.index : 0, timeMs };
}

/** Somebody has thought better of a removal, whatever has become of it meanwhile. */
function giftOf(peer: string): Change {
  return ['votesGivenBack', { kind: 'voter-added', actor: 'root@gate', body: { peer, replaces: null } } as EntryDraft];
}

interface Keeping {
  readonly fleet: Fleet;
  readonly client: Client;
}

interface Since {
  readonly index: number;
  readonly timeMs: number;
}

/** Changes who votes, unless something else does. */
export function keepHabit(fleet: Fleet): Habit {
  let isOurs = false;
  let since: Since = { index: 0, timeMs: 0 };
  return {
    waitMs: [500, 3_000],
    async act(client, chance, id) {
      const state = client.glance();
      if (state === undefined || (fleet.votersAreChanging && !isOurs)) return;
      if (!isOurs && isSettled(state)) {
        const change = chooseChange(state, chance);
        if (change === undefined) return;
        [isOurs, fleet.votersAreChanging] = [true, true];
        const [, draft] = change;
        since = await order({ fleet, client }, change, id());
        if (draft.kind === 'voter-removed' && chance.happens(0.5)) {
          await client.pause(chance.below(hasteMs));
          const back = await order({ fleet, client }, giftOf(draft.body.peer), id());
          since = { index: Math.max(since.index, back.index), timeMs: Math.max(since.timeMs, back.timeMs) };
        }
      }
      if (!(await settled({ fleet, client }, since))) return;
      [isOurs, fleet.votersAreChanging] = [false, false];
    },
  };
}
