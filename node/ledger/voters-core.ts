// Owns who is to vote and who does: a member gets or gives up the role, and configuration entries say which voters are in
// force, with the keys that certificates are judged by.

import {
  type ConfigurationContext,
  configurationContextOf,
  nextConfiguration,
  nextVoterSet,
  type VoterIdentity,
} from '../../protocols/certificate.ts';
import { raftIdsPerGeneration } from '../../protocols/generation.ts';
import type { LedgerState, Member } from '../../protocols/ledger-state.ts';
import { votersMax } from '../../protocols/limits.ts';
import { addNotice } from './notices-core.ts';
import { type Handler, memberOf, refusal } from './state-core.ts';
import { dropRecords, putRecord } from './tables-core.ts';

export const voterAdded: Handler<'voter-added'> = (state, { peer, replaces }) => {
  const member = memberOf(state, peer);
  if (member.roles.includes('voter')) throw refusal('voter-already', `'${member.name}' votes already`);
  if (member.roles.includes('monitor')) throw refusal('voter-unfit', `'${member.name}' is only monitored`);
  const old = replaces === null ? undefined : memberOf(state, replaces);
  if (old !== undefined && !old.roles.includes('voter')) throw refusal('voter-unknown', `'${old.name}' does not vote`);
  const count = votingMembers(state).length - (old === undefined ? 0 : 1);
  if (count >= votersMax) {
    throw refusal('too-many-voters', `the fleet has ${count} voters: that is the limit`, 'Remove a voter first.');
  }
  const voting: Member = {
    ...withoutVote(member),
    roles: [...member.roles, 'voter' as const].sort(),
    ...(replaces === null ? {} : { replaces }),
  };
  return { state: putRecord(state, 'members', peer, voting) };
};

export const voterRemoved: Handler<'voter-removed'> = (state, { peer }) => {
  const member = memberOf(state, peer);
  if (!member.roles.includes('voter')) throw refusal('voter-unknown', `'${member.name}' does not vote`);
  refuseLastVoter(state, member);
  return { state: putRecord(state, 'members', peer, withoutVote(member)) };
};

export const memberRemoved: Handler<'member-removed'> = (state, { peer }) => {
  const member = memberOf(state, peer);
  if (member.roles.includes('voter')) refuseLastVoter(state, member);
  const next = dropRecords(dropRecords(state, 'members', [peer]), 'orders', [member.name]);
  const gone = dropRecords(next, 'devices', [member.name]);
  return { state: addNotice(gone, 'info', null, `${member.name} was removed from the fleet`) };
};

/** A generation goes on with the voters of its record alone; everybody else's vote is gone. */
export const generationBegun: Handler<'generation-begun'> = (state, record, meta) => {
  if (record.number <= state.generation || record.baseIndex !== meta.index - 1) {
    throw refusal('generation-misplaced', `generation ${record.number} does not begin at entry ${meta.index}`);
  }
  let next: LedgerState = {
    ...state,
    generation: record.number,
    nextRaftId: Math.max(state.nextRaftId, record.number * raftIdsPerGeneration + record.voters.length),
    voters: record.voters.map(({ raftId }) => raftId).sort((a, b) => a - b),
    learners: [],
    joint: null,
    voterSet: { generation: record.number, index: meta.index, voters: record.voters, votersOutgoing: [] },
  };
  for (const member of votingMembers(state)) next = putRecord(next, 'members', member.peer, withoutVote(member));
  for (const { raftId, peer, key } of record.voters) {
    const member = next.members[peer];
    if (member === undefined) continue;
    const voting: Member = { ...member, roles: [...member.roles, 'voter' as const].sort(), raftId, voterKey: key };
    next = putRecord(next, 'members', peer, voting);
  }
  return { state: next };
};

/**
 * The voters in force from a configuration entry on, as the entry itself says. One that says nothing sensible changes
 * nothing: no voter certifies it, since consensus knows better.
 */
export function configured(state: LedgerState, at: { readonly index: number; readonly data: Uint8Array }): LedgerState {
  let context: ConfigurationContext | undefined;
  try {
    context = configurationContextOf(at);
  } catch {
    return state;
  }
  if (context !== undefined && !namesVoters(state, context)) return state;
  const { votersOutgoing, learnersNext, autoLeave } = state.joint ?? noJoint;
  const before = { voters: state.voters, learners: state.learners, votersOutgoing, learnersNext, autoLeave };
  const after = nextConfiguration(before, context);
  const isJoint = after.votersOutgoing.length > 0;
  const next: LedgerState = {
    ...state,
    voters: after.voters,
    learners: after.learners,
    joint: isJoint
      ? { votersOutgoing: after.votersOutgoing, learnersNext: after.learnersNext, autoLeave: after.autoLeave }
      : null,
    voterSet: nextVoterSet(state.voterSet, at.index, context),
  };
  return isJoint ? next : withoutReplaced(next);
}

/** The voter that a raft id was allotted to; undefined for none, and for one given up long ago. */
export function voterOf({ voterSet, allotted }: LedgerState, raftId: number): VoterIdentity | undefined {
  const known = [...voterSet.voters, ...voterSet.votersOutgoing, ...allotted];
  return known.find((voter) => voter.raftId === raftId);
}

/** True when the entry gives exactly its voters, each with the key that the raft id was allotted to. */
function namesVoters(state: LedgerState, { configuration, voters }: ConfigurationContext): boolean {
  const raftIds = new Set([...configuration.voters, ...configuration.votersOutgoing]);
  const isRight = ({ raftId, peer, key }: VoterIdentity): boolean => {
    const known = voterOf(state, raftId);
    return raftIds.delete(raftId) && known?.peer === peer && known.key === key;
  };
  return voters.every(isRight) && raftIds.size === 0;
}

const noJoint = { votersOutgoing: [], learnersNext: [], autoLeave: false };

/** Those whose successor votes now give up the role. */
function withoutReplaced(state: LedgerState): LedgerState {
  let next = state;
  for (const { replaces, ...member } of Object.values(state.members)) {
    if (replaces === undefined || !state.voters.includes(member.raftId)) continue;
    next = putRecord(next, 'members', member.peer, member);
    const old = next.members[replaces];
    if (old !== undefined) next = putRecord(next, 'members', replaces, withoutVote(old));
  }
  return next;
}

function withoutVote({ voterKey: _key, replaces: _replaces, ...member }: Member): Member {
  return { ...member, raftId: 0, roles: member.roles.filter((role) => role !== 'voter') };
}

function votingMembers(state: LedgerState): Member[] {
  return Object.values(state.members).filter(({ roles }) => roles.includes('voter'));
}

function refuseLastVoter(state: LedgerState, { name }: Member): void {
  if (votingMembers(state).length > 1) return;
  throw refusal('last-voter', `'${name}' is the fleet's only voter`, 'Add another voter first: `voters add HOST`.');
}
