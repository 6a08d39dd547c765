// Owns who belongs to the fleet: its foundation, invites, members and their numbers in consensus.

import { allVoters, type VoterIdentity } from '../../protocols/certificate.ts';
import type { EntryBody, MemberFacts } from '../../protocols/ledger-entries.ts';
import { configurationIn, judgeJoin, memberNamed } from '../../protocols/ledger-rules.ts';
import { allottedKeptMax, type Invite, type LedgerState, type Member } from '../../protocols/ledger-state.ts';
import { invitesMax, membersMax, votersMax } from '../../protocols/limits.ts';
import type { Role } from '../../protocols/primitives.ts';
import { addNotice } from './notices-core.ts';
import { type Handler, memberOf, refusal } from './state-core.ts';
import { dropRecords, putRecord } from './tables-core.ts';

/** The state that entry 1 founds: a fleet of one voter. */
export function foundedState(
  body: EntryBody<'fleet-founded'>,
  at: { readonly fleet: string; readonly chainHash: string; readonly term: number; readonly timeMs: number },
): LedgerState {
  const { name, site, roles, ...facts } = body.founder;
  const fixed = { name, site, roles: sortedRoles([...roles, 'voter']), joinedAtMs: at.timeMs };
  const { member: founder } = withFacts({ ...fixed, raftId: 0 }, facts, 1);
  return {
    version: 1,
    level: body.level,
    fleet: at.fleet,
    generation: 0,
    generationIndex: 0,
    index: 1,
    term: at.term,
    chainHash: at.chainHash,
    timeMs: at.timeMs,
    recoveryKey: body.recoveryKey,
    members: { [founder.peer]: founder },
    removedPeers: [],
    nextRaftId: 2,
    voters: [1],
    learners: [],
    joint: null,
    voterSet: {
      generation: 0,
      index: 1,
      voters: [{ raftId: 1, peer: founder.peer, key: facts.voterKey }],
      votersOutgoing: [],
    },
    allotted: [{ raftId: 1, peer: founder.peer, key: facts.voterKey }],
    checkpointIndex: 0,
    checkpointBegun: 0,
    checkpointMade: 0,
    invites: {},
    draft: null,
    head: null,
    policy: null,
    nextTaskNumber: 1,
    tasks: {},
    plans: {},
    orders: {},
    devices: {},
    nextNoticeNumber: 1,
    notices: [],
    commands: {},
  };
}

export const fleetFounded: Handler<'fleet-founded'> = () => {
  throw refusal('already-founded', 'the fleet is founded already: its first entry stands for ever');
};

export const inviteOpened: Handler<'invite-opened'> = (state, body) => {
  if (state.invites[body.keyHash] !== undefined) {
    throw refusal('invite-exists', 'an invite with this key exists already', 'Make a new one with a fresh key.');
  }
  if (memberNamed(state, body.name) !== undefined) {
    throw refusal('name-taken', `a member named '${body.name}' exists already`, 'Invite the peer under another name.');
  }
  if (body.expiresAtMs <= state.timeMs) throw refusal('invite-expired', 'the invite would expire before it is opened');
  const roles = sortedRoles(body.roles);
  checkRoom(state, roles);
  const open = Object.values(state.invites).filter((invite) => isOpenInvite(state, invite));
  if (open.length >= invitesMax) {
    throw refusal('too-many-invites', `${open.length} invites are open: the limit is ${invitesMax}`, undefined, true);
  }
  const invite: Invite = { name: body.name, site: body.site, roles, expiresAtMs: body.expiresAtMs, usedBy: null };
  return { state: putRecord(withoutOldInvites(state), 'invites', body.keyHash, invite) };
};

export function isOpenInvite(state: LedgerState, invite: Invite): boolean {
  return invite.usedBy === null && invite.expiresAtMs > state.timeMs;
}

/** Used and expired invites are kept to say why they are refused; the longest expired leave. */
function withoutOldInvites(state: LedgerState): LedgerState {
  const entries = Object.entries(state.invites);
  if (entries.length < 2 * invitesMax) return state;
  const closed = entries.filter(([, invite]) => !isOpenInvite(state, invite));
  closed.sort(([a, left], [b, right]) => left.expiresAtMs - right.expiresAtMs || (a < b ? -1 : 1));
  const leaving = closed.slice(0, entries.length - 2 * invitesMax + 1);
  return dropRecords(
    state,
    'invites',
    leaving.map(([hash]) => hash),
  );
}

export const memberJoined: Handler<'member-joined'> = (state, body) => {
  const { proof: _proof, ...facts } = body;
  const joining = judgeJoin(state, body);
  if ('member' in joining) return { state };
  const { keyHash, invite } = joining;
  const { name, site, roles } = invite;
  checkRoom(state, roles);
  const back = { ...state, removedPeers: state.removedPeers.filter(({ peer }) => peer !== facts.peer) };
  const joined = putFacts(back, { name, site, roles, raftId: 0, joinedAtMs: state.timeMs }, facts);
  const next = putRecord(joined, 'invites', keyHash, { ...invite, usedBy: facts.peer });
  return { state: addNotice(next, 'info', null, `${name} joined at site ${site}`) };
};

export const memberUpdated: Handler<'member-updated'> = (state, body) => {
  const member = memberOf(state, body.peer);
  const next = putFacts(state, member, body);
  if (member.voterKey === undefined || next.members[body.peer]?.raftId === member.raftId) return { state: next };
  const text = `${member.name} lost what it knew as a voter: it takes part under a new key and votes again once it has caught up`;
  return { state: addNotice(next, 'failure', null, text) };
};

function checkRoom(state: LedgerState, roles: readonly Role[]): void {
  const members = Object.values(state.members);
  if (members.length >= membersMax)
    throw refusal('fleet-full', `the fleet has ${members.length} members: that is the limit`);
  const voters = members.filter((member) => member.roles.includes('voter')).length;
  if (roles.includes('voter') && voters >= votersMax) {
    throw refusal(
      'too-many-voters',
      `the fleet has ${voters} voters: that is the limit`,
      'Invite the peer without that role.',
    );
  }
}

type Fixed = Pick<Member, 'name' | 'site' | 'roles' | 'raftId' | 'joinedAtMs'> &
  Partial<Pick<Member, 'voterKey' | 'replaces' | 'leaving'>>;

/** Stores a member with what it now tells about itself. */
function putFacts(state: LedgerState, fixed: Fixed, facts: MemberFacts): LedgerState {
  const { member, nextRaftId } = withFacts(fixed, facts, state.nextRaftId);
  const { raftId, peer, voterKey: key } = member;
  const next = { ...putRecord(state, 'members', peer, member), nextRaftId };
  return nextRaftId > state.nextRaftId && key !== undefined ? withAllotted(next, { raftId, peer, key }) : next;
}

/**
 * Remembers whom a new raft id was allotted to. Where there is no room left, one goes that nobody needs: of the same member
 * first, so that whoever asks for many takes none from the others.
 */
function withAllotted(state: LedgerState, voter: VoterIdentity): LedgerState {
  const allotted = [...state.allotted, voter];
  if (allotted.length <= allottedKeptMax) return { ...state, allotted };
  const needed = neededRaftIds(state);
  const idle = allotted.filter(({ raftId }) => !needed.has(raftId));
  const left = idle.find(({ peer }) => peer === voter.peer) ?? idle[0] ?? allotted[0];
  return { ...state, allotted: allotted.filter((each) => each !== left) };
}

/** Raft ids that somebody speaks under, or is to. */
function neededRaftIds(state: LedgerState): Set<number> {
  const members = Object.values(state.members).map(({ raftId }) => raftId);
  const inForce = allVoters(state.voterSet).map(({ raftId }) => raftId);
  const { learners, ...counted } = configurationIn(state);
  return new Set([...members, ...inForce, ...allVoters(counted), ...learners]);
}

/**
 * A member with the facts that it tells about itself. A builder key counts only with that role. A voter's new key takes the
 * next raft id: whoever lost what its old one promised must not speak under it again.
 */
function withFacts(
  fixed: Fixed,
  { peer, addresses, system, builderKey, voterKey = fixed.voterKey }: MemberFacts,
  nextRaftId: number,
): { readonly member: Member; readonly nextRaftId: number } {
  const { name, site, roles, joinedAtMs, replaces, leaving } = fixed;
  const votes = roles.includes('voter') && voterKey !== undefined;
  const isNewVoter = votes && voterKey !== fixed.voterKey;
  const member = {
    ...{ peer, addresses, system, name, site, roles, joinedAtMs },
    raftId: isNewVoter ? nextRaftId : votes ? fixed.raftId : 0,
    ...(builderKey !== undefined && roles.includes('builder') ? { builderKey } : {}),
    ...(votes ? { voterKey } : {}),
    ...(replaces === undefined ? {} : { replaces }),
    ...(leaving === undefined ? {} : { leaving }),
  };
  return { member, nextRaftId: nextRaftId + (isNewVoter ? 1 : 0) };
}

function sortedRoles(roles: readonly Role[]): Role[] {
  return [...new Set(roles)].sort();
}
