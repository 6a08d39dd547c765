// Owns the ledger's members as the mesh and consensus see them: who is let in, whom to stay connected to, who has which
// number. Voters that were proven to this peer before its own ledger has come to them count as well. The answers are looked
// up often and change rarely, so they are made once for each change.

import { allVoters } from '../../protocols/certificate.ts';
import type { JoinContact } from '../../protocols/join.ts';
import type { LedgerState, Member } from '../../protocols/ledger-state.ts';
import type { Clock } from '../interfaces.ts';
import type { AppliedListener, MeshMembersView, RaftMembersView } from './ledger-types.ts';
import type { ProvenVoters } from './voter-set-watch.ts';
import { countedVoter } from './voters-core.ts';
import type { WayBack } from './way-back.ts';

/** In a fleet below this every peer stays connected to every other. */
const fullMeshMembersMax = 32;

export interface MemberViews {
  readonly mesh: MeshMembersView;
  readonly raft: RaftMembersView;
  /** Other voters, as far as this peer knows. */
  voters(): string[];
  /** Everybody else that this peer may connect to. */
  others(): string[];
}

interface KnownPeers {
  readonly byPeer: ReadonlyMap<string, JoinContact>;
  readonly byRaftId: ReadonlyMap<number, string>;
  readonly wanted: readonly JoinContact[];
}

const noKnownPeers: KnownPeers = { byPeer: new Map(), byRaftId: new Map(), wanted: [] };

export function createMemberViews(init: {
  readonly self: string;
  readonly clock: Pick<Clock, 'nowMs'>;
  /** Undefined while the ledger is not running. */
  readonly state: () => LedgerState | undefined;
  readonly contacts: () => readonly JoinContact[];
  /** Entry since which they vote, as far as that was noted. */
  readonly contactsIndex: number;
  /** Newer voters than the own ledger's, where somebody has proven them. */
  readonly proven: () => ProvenVoters | undefined;
  readonly onProven: (listener: () => void) => () => void;
  /** Undefined while the ledger is not running. */
  readonly wayBack: () => Pick<WayBack, 'asksStrangers' | 'meet'> | undefined;
  /** That this peer has accepted. */
  readonly generation: number;
  readonly onApplied: (listener: AppliedListener) => () => void;
}): MemberViews {
  const { self, clock } = init;
  let seen: LedgerState | undefined;
  let seenProven: ProvenVoters | undefined;
  let known = noKnownPeers;

  function refresh(): KnownPeers {
    const state = init.state();
    const proven = init.proven();
    if (
      state?.members === seen?.members &&
      state?.voterSet === seen?.voterSet &&
      state?.learners === seen?.learners &&
      proven === seenProven
    )
      return known;
    [seen, seenProven] = [state, proven];
    known = state === undefined ? noKnownPeers : knownPeers(state, self, toldOf(state), proven);
    return known;
  }

  /** Those that this peer was told of stand in while its ledger is behind its joining, behind who voted last, or behind a generation that it has accepted. */
  function toldOf({ members, generation, voterSet }: LedgerState): readonly JoinContact[] {
    const isBehind = generation < init.generation || voterSet.index < init.contactsIndex;
    return Object.hasOwn(members, self) && !isBehind ? [] : init.contacts();
  }

  /** Ledger time stands still without entries, so an invite also closes by the own clock; joining checks it again. */
  function joinsOpen(): boolean {
    const state = init.state();
    if (state === undefined) return false;
    const now = Math.max(clock.nowMs(), state.timeMs);
    return Object.values(state.invites).some((invite) => invite.usedBy === null && invite.expiresAtMs > now);
  }

  return {
    mesh: {
      isMember: (peer) => refresh().byPeer.has(peer),
      wasRemoved: (peer) => init.state()?.removedPeers.some((removed) => removed.peer === peer) ?? false,
      joinsOpen,
      asksStrangers: () => init.wayBack()?.asksStrangers() ?? false,
      meet: (stranger) => init.wayBack()?.meet(stranger),
      wanted: () => refresh().wanted,
      onChange(listener) {
        let last = init.state();
        const stops = [
          init.onProven(listener),
          init.onApplied((state) => {
            const isSame = state.members === last?.members && state.invites === last.invites;
            last = state;
            if (!isSame) listener();
          }),
        ];
        return () => {
          for (const stop of stops) stop();
        };
      },
    },
    raft: {
      peerOf: (raftId) => refresh().byRaftId.get(raftId),
      raftIdOf(peer) {
        const raftId = refresh().byPeer.get(peer)?.raftId;
        return raftId === 0 ? undefined : raftId;
      },
      voters: () => init.state()?.voters ?? [],
    },
    voters() {
      const state = init.state();
      if (state === undefined) return [];
      const others = [...toldOf(state), ...(init.proven()?.contacts ?? [])].filter(({ raftId }) => raftId > 0);
      return [...new Set([...voterPeers(state), ...others.map(({ peer }) => peer)])].filter((peer) => peer !== self);
    },
    others: () => [...refresh().byPeer.keys()].filter((peer) => peer !== self),
  };
}

/** The members, those that this peer was told of, and voters that were proven to it. */
function knownPeers(
  state: LedgerState,
  self: string,
  told: readonly JoinContact[],
  proven: ProvenVoters | undefined,
): KnownPeers {
  const all = Object.values(state.members);
  const own = all.find((member) => member.peer === self);
  const isWanted = (member: Member): boolean =>
    all.length < fullMeshMembersMax || member.site === own?.site || member.roles.includes('voter');
  const byPeer = new Map<string, JoinContact>();
  for (const { peer, addresses, raftId } of told) byPeer.set(peer, { peer, addresses, raftId });
  for (const member of all) byPeer.set(member.peer, { ...contactOf(member), raftId: spokenRaftId(member, state) });
  const voters = proven?.contacts ?? [];
  for (const voter of voters) byPeer.set(voter.peer, introduced(voter, byPeer.get(voter.peer)));
  const wanted = new Map([...told, ...all.filter(isWanted), ...voters].map(({ peer }) => [peer, byPeer.get(peer)]));
  wanted.delete(self);
  return {
    byPeer,
    byRaftId: new Map(
      [...byPeer.values()].filter(({ raftId }) => raftId > 0).map(({ peer, raftId }) => [raftId, peer]),
    ),
    wanted: [...wanted.values()].filter((contact) => contact !== undefined),
  };
}

function contactOf({ peer, addresses, raftId }: Member): JoinContact {
  return { peer, addresses, raftId };
}

/**
 * The raft id that a member speaks under: the newest that it was allotted. One whose vote is being taken keeps the one in
 * force until consensus knows it no more, since the change may need its word; an id that a newer one has taken the place of
 * is nobody's.
 */
function spokenRaftId({ peer, raftId }: Member, state: LedgerState): number {
  return raftId > 0 ? raftId : (countedVoter(state, peer)?.raftId ?? 0);
}

/** A proven voter beside what is known of it: the newest raft id is the one that it speaks under. */
function introduced(voter: JoinContact, known: JoinContact | undefined): JoinContact {
  const addresses = voter.addresses.length > 0 ? voter.addresses : (known?.addresses ?? []);
  return { peer: voter.peer, addresses, raftId: Math.max(voter.raftId, known?.raftId ?? 0) };
}

/** Whose work stores blobs with the voters: whoever leads, or has the project to stage a work folder against. */
export function mayBringBlobs(state: LedgerState, peer: string): boolean {
  const roles = state.members[peer]?.roles ?? [];
  return roles.includes('voter') || roles.includes('builder') || voterPeers(state).includes(peer);
}

/** Members among the voters in force, the joint half included. */
export function voterPeers({ voterSet, members }: LedgerState): string[] {
  const peers = allVoters(voterSet).map(({ peer }) => peer);
  return [...new Set(peers)].filter((peer) => members[peer] !== undefined);
}
