// Owns who is to vote and who does: a member gets or gives up the role, and configuration entries say which voters are in
// force, with the keys that certificates are judged by.

import {
  allVoters,
  type ConfigurationContext,
  configurationContextOf,
  nextConfiguration,
  nextVoterSet,
  type VoterIdentity,
} from '../../protocols/certificate.ts';
import { generationHash, generationVoters, raftIdsPerGeneration } from '../../protocols/generation.ts';
import { configurationIn, votersWarning, votingMembers } from '../../protocols/ledger-rules.ts';
import { type LedgerState, type Member, removedPeersKeptMax } from '../../protocols/ledger-state.ts';
import { votersMax } from '../../protocols/limits.ts';
import { withoutWorkOf } from './departures-core.ts';
import { addNotice } from './notices-core.ts';
import { type Handler, memberOf, refusal } from './state-core.ts';
import { dropRecords, putRecord } from './tables-core.ts';

export const voterAdded: Handler<'voter-added'> = (state, { peer, replaces }) => {
  const member = stayingMember(state, peer);
  if (member.roles.includes('voter')) throw refusal('voter-already', `'${member.name}' is a voter already`);
  if (member.roles.includes('monitor')) {
    const text = `'${member.name}' is only monitored: it cannot vote`;
    throw refusal('voter-unfit', text, 'Invite it again with the role member.');
  }
  const old = replaces === null ? undefined : memberOf(state, replaces);
  if (old !== undefined) checkReplaced(state, old);
  const count = votingMembers(state).length - (old === undefined ? 0 : 1);
  if (count >= votersMax) {
    const text = `the fleet has ${count} voters: ${votersMax} is the limit`;
    throw refusal('too-many-voters', text, 'Replace a voter or remove one first.');
  }
  // Whose vote is only being taken gets it back as it is: under another raft id nobody would hear what it still says under this.
  const counted = countedVoter(state, peer);
  const voting: Member = {
    ...withoutVote(member),
    roles: [...member.roles, 'voter' as const].sort(),
    ...(counted === undefined ? {} : { raftId: counted.raftId, voterKey: counted.key }),
    ...(replaces === null ? {} : { replaces }),
  };
  return { state: putRecord(state, 'members', peer, voting) };
};

function checkReplaced(state: LedgerState, old: Member): void {
  if (!old.roles.includes('voter')) throw refusal('voter-unknown', `'${old.name}' is no voter`);
  const successor = votingMembers(state).find(({ replaces }) => replaces === old.peer);
  if (successor === undefined) return;
  const text = `'${old.name}' is being replaced by '${successor.name}' already`;
  throw refusal('voter-already', text, `Take that back first: \`voters remove ${successor.name}\`.`);
}

export const voterRemoved: Handler<'voter-removed'> = (state, { peer }) => {
  const member = memberOf(state, peer);
  if (!member.roles.includes('voter')) throw refusal('voter-unknown', `'${member.name}' is no voter`);
  refuseLastVoter(state, member);
  return { state: putRecord(withoutSuccessor(state, peer), 'members', peer, withoutVote(member)) };
};

/** A voter stays a member until consensus counts on it no more: with two voters, its word is needed for that. */
export const memberRemoved: Handler<'member-removed'> = (state, { peer }) => {
  const member = stayingMember(state, peer);
  if (member.roles.includes('voter')) refuseLastVoter(state, member);
  const next = withoutSuccessor(withoutWorkOf(state, member), peer);
  const { builderKey: _key, ...plain } = withoutVote(member);
  const leaving: Member = { ...plain, roles: ['member'], leaving: true };
  const told = addNotice(next, 'info', null, `${member.name} was removed from the fleet`);
  return { state: withoutLeft(putRecord(told, 'members', peer, leaving)) };
};

/** Drops those who were removed and whom consensus does not know any more. */
function withoutLeft(state: LedgerState): LedgerState {
  const isCounted = (peer: string): boolean => countedVoter(state, peer) !== undefined;
  const left = Object.values(state.members).filter(({ leaving, peer }) => leaving === true && !isCounted(peer));
  if (left.length === 0) return state;
  const removed = left.map(({ peer, name }) => ({ peer, name, atMs: state.timeMs }));
  const peers = left.map(({ peer }) => peer);
  const next = dropRecords(state, 'members', peers);
  return { ...next, removedPeers: [...next.removedPeers, ...removed].slice(-removedPeersKeptMax) };
}

/** Whoever was to take this voter's place takes none. */
function withoutSuccessor(state: LedgerState, peer: string): LedgerState {
  let next = state;
  for (const { replaces, ...member } of Object.values(state.members)) {
    if (replaces === peer) next = putRecord(next, 'members', member.peer, member);
  }
  return next;
}

/** A generation goes on with the voters of its record alone; everybody else's vote is gone. */
export const generationBegun: Handler<'generation-begun'> = (state, record, meta) => {
  if (record.number <= state.generation || record.baseIndex !== meta.index - 1) {
    throw refusal('generation-misplaced', `generation ${record.number} does not begin at entry ${meta.index}`);
  }
  // Any controller can write a record: the recovery key or root vouch for it, and that is found out before it is accepted.
  if (!meta.generations.some((accepted) => generationHash(accepted) === generationHash(record))) {
    throw refusal('generation-unknown', `nobody has vouched for this generation ${record.number} here`);
  }
  let next: LedgerState = {
    ...state,
    generation: record.number,
    generationIndex: meta.index,
    nextRaftId: Math.max(state.nextRaftId, record.number * raftIdsPerGeneration + record.voters.length),
    voters: record.voters.map(({ raftId }) => raftId).sort((a, b) => a - b),
    learners: [],
    joint: null,
    voterSet: generationVoters(record),
    allotted: record.voters.map(({ raftId, peer, key }) => ({ raftId, peer, key })),
  };
  for (const member of votingMembers(state)) next = putRecord(next, 'members', member.peer, withoutVote(member));
  for (const { raftId, peer, key } of record.voters) {
    const member = next.members[peer];
    if (member === undefined) continue;
    const voting: Member = { ...member, roles: [...member.roles, 'voter' as const].sort(), raftId, voterKey: key };
    next = putRecord(next, 'members', peer, voting);
  }
  return { state: withoutLeft(next) };
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
  const after = nextConfiguration(configurationIn(state), context);
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
  if (isJoint) return next;
  return withVotersNotice(withoutLeft(withoutReplaced(next)), state);
}

/** The voter that a raft id was allotted to; undefined for none, and for one given up long ago. */
export function voterOf({ voterSet, allotted }: LedgerState, raftId: number): VoterIdentity | undefined {
  const known = [...allVoters(voterSet), ...allotted];
  return known.find((voter) => voter.raftId === raftId);
}

/** What consensus counts a peer as, its vote or its learning; of several the newest. Undefined for who has no part in it. */
export function countedVoter(state: LedgerState, peer: string): VoterIdentity | undefined {
  const learners = state.learners.flatMap((raftId) => voterOf(state, raftId) ?? []);
  const own = [...allVoters(state.voterSet), ...learners].filter((voter) => voter.peer === peer);
  return own.toSorted((one, other) => other.raftId - one.raftId)[0];
}

/** True when the entry gives exactly its voters, each with the key that the raft id was allotted to. */
function namesVoters(state: LedgerState, { configuration, voters }: ConfigurationContext): boolean {
  const raftIds = new Set(allVoters(configuration));
  const isRight = ({ raftId, peer, key }: VoterIdentity): boolean => {
    const known = voterOf(state, raftId);
    return raftIds.delete(raftId) && known?.peer === peer && known.key === key;
  };
  return voters.every(isRight) && raftIds.size === 0;
}

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
  const others = member.roles.filter((role) => role !== 'voter');
  return { ...member, raftId: 0, roles: others.length > 0 ? others : ['member'] };
}

/** Tells who votes now, where that has changed. */
function withVotersNotice(state: LedgerState, before: LedgerState): LedgerState {
  const peersOf = ({ voterSet }: LedgerState) => voterSet.voters.map(({ peer }) => peer).sort();
  const peers = peersOf(state);
  const earlier = before.voterSet.votersOutgoing.map(({ peer }) => peer).sort();
  const last = earlier.length > 0 ? earlier : peersOf(before);
  if (peers.join() === last.join()) return state;
  const names = peers.map((peer) => state.members[peer]?.name ?? 'a peer that left').sort();
  const warning = votersWarning(peers.length);
  const text = `${names.join(', ')} ${names.length === 1 ? 'votes' : 'vote'} now${warning ? `: ${warning}` : ''}`;
  return addNotice(state, 'info', null, text);
}

/** @throws ParleyError `member-unknown`, also for one that was removed. */
function stayingMember(state: LedgerState, peer: string): Member {
  const member = memberOf(state, peer);
  if (member.leaving !== true) return member;
  throw refusal('member-unknown', `'${member.name}' was removed and leaves once the voters have changed`);
}

/** Refuses to take the vote of the only peer that has one, whoever else is on the way to it. */
function refuseLastVoter(state: LedgerState, member: Member): void {
  const counted = new Set(state.voterSet.voters.map(({ raftId }) => raftId));
  const others = votingMembers(state).filter(({ peer }) => peer !== member.peer);
  // A vote that is not in force yet is none to lose, unless nobody else is to vote at all.
  if (others.length > 0 && !counted.has(member.raftId)) return;
  if (others.some(({ raftId }) => counted.has(raftId))) return;
  const text = `'${member.name}' is the fleet's only voter`;
  throw refusal('last-voter', text, 'Add another voter first: `voters add HOST`.');
}
