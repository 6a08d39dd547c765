// Owns what people are told about voters: who votes, who is on the way to it or from it, what a change waits for, and what
// loss the fleet survives. Pure.

import type { Beat } from '../../protocols/beat.ts';
import { allVoters } from '../../protocols/certificate.ts';
import { votersWarning, votingMembers } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Member } from '../../protocols/ledger-state.ts';
import type { VotersView } from '../../protocols/views.ts';
import { peerViews, troubleWarnings, type ViewFacts } from './views-core.ts';

/** Entries that a voter may lack and still count as caught up: they are on their way. */
const lagMax = 64;

type Row = VotersView['voters'][number];
export type VotersChange = NonNullable<VotersView['change']>;

export function votersView(state: LedgerState, facts: ViewFacts): VotersView {
  const { voters } = state.voterSet;
  const majority = majorityOf(voters.length);
  const there = voters.filter(({ peer }) => facts.presence(peer).online).length;
  const shown = rows(state, facts);
  const troubled = peerViews(state, facts).filter(({ peer }) => shown.some((row) => row.peer === peer));
  const warnings = [
    votersWarning(votingMembers(state).length),
    absenceWarning(there, majority, voters.length),
    ...troubleWarnings(troubled),
  ];
  return {
    version: 1,
    current: facts.current,
    voters: shown,
    majority,
    spare: Math.max(0, there - majority),
    change: votersChange(state, facts),
    warnings: warnings.filter((text) => text !== undefined),
  };
}

/** Votes that a majority of so many voters needs. */
export function majorityOf(count: number): number {
  return Math.floor(count / 2) + 1;
}

function absenceWarning(there: number, majority: number, count: number): string | undefined {
  const missing = count - there;
  if (missing === 0) return undefined;
  const away = `${missing} of ${count} voters ${missing === 1 ? 'is' : 'are'} away`;
  if (there < majority) return `${away}: nothing can be decided until ${majority} are there`;
  return there === majority ? `${away}: the loss of one more stops the fleet` : undefined;
}

/** Everybody who votes or is to, sorted by name. */
function rows(state: LedgerState, facts: ViewFacts): Row[] {
  const { voterSet, members } = state;
  const inForce = new Set(allVoters(voterSet).map(({ peer }) => peer));
  const wanted = votingMembers(state);
  const leaving = [...inForce].flatMap((peer) => members[peer] ?? []).filter(({ roles }) => !roles.includes('voter'));
  return [...wanted, ...leaving].map((member) => row(member, state, facts)).sort((a, b) => (a.name < b.name ? -1 : 1));
}

function row(member: Member, state: LedgerState, facts: ViewFacts): Row {
  const { name, peer } = member;
  const { online, lastSeenMs, beat } = facts.presence(peer);
  const ledgerIndex = beat?.ledgerIndex ?? null;
  const raftId = member.raftId > 0 ? member.raftId : (raftIdInForce(state, peer) ?? null);
  const standing = !member.roles.includes('voter') ? 'leaving' : isVoting(state, member) ? 'votes' : 'joining';
  const caughtUp = online && ledgerIndex !== null ? state.index - ledgerIndex <= lagMax : null;
  return {
    name,
    peer,
    raftId,
    standing,
    online,
    caughtUp,
    ledgerIndex,
    lastSeenMs,
    controller: peer === facts.controller,
  };
}

/** True when consensus counts on the member under the number that it has now. */
export function isVoting({ voterSet }: LedgerState, { peer, raftId }: Member): boolean {
  return voterSet.voters.some((voter) => voter.peer === peer && voter.raftId === raftId);
}

function raftIdInForce({ voterSet }: LedgerState, peer: string): number | undefined {
  return allVoters(voterSet).find((voter) => voter.peer === peer)?.raftId;
}

/** The change of voters that is under way; null when who votes is who is to vote. */
export function votersChange(state: LedgerState, facts: ViewFacts): VotersChange | null {
  const wanted = votingMembers(state);
  const { voters } = state.voterSet;
  const joining = wanted.filter((member) => !isVoting(state, member));
  const kept = new Set(wanted.map(({ raftId }) => raftId));
  const leaving = voters.filter(({ raftId }) => !kept.has(raftId)).map(({ peer }) => peer);
  if (joining.length === 0 && leaving.length === 0 && state.joint === null) return null;
  const gone = leaving.filter((peer) => !joining.some((member) => member.peer === peer));
  const nameOf = (peer: string): string => state.members[peer]?.name ?? 'a peer that was removed';
  const texts = [
    ...joining.map(({ name, replaces }) =>
      replaces === undefined ? `${name} is to vote` : `${name} is to vote in place of ${nameOf(replaces)}`,
    ),
    ...gone.map((peer) => `${nameOf(peer)} is to vote no more`),
  ];
  const text = texts.length > 0 ? texts.join('; ') : 'the voters before still have to agree';
  return { text, waitsFor: waitsFor(state, facts, joining) ?? leavingWaitsFor(gone, state, facts) };
}

function waitsFor(state: LedgerState, facts: ViewFacts, joining: readonly Member[]): string | null {
  const { voters, votersOutgoing } = state.voterSet;
  for (const half of [voters, votersOutgoing]) {
    const there = half.filter(({ peer }) => facts.presence(peer).online).length;
    if (half.length > 0 && there < majorityOf(half.length)) {
      return `a majority of the voters: ${there} of ${half.length} are there`;
    }
  }
  if (facts.controller === null) return 'a controller';
  const reasons = joining.map((member) => joiningWaitsFor(member, state, facts));
  // One that can go on goes on, whoever else waits.
  return reasons.some((reason) => reason === null) ? null : (reasons[0] ?? null);
}

function joiningWaitsFor({ name, peer, raftId }: Member, state: LedgerState, facts: ViewFacts): string | null {
  const { online, lastSeenMs, beat } = facts.presence(peer);
  if (!online) return `${name}, which ${lastSeenMs === null ? 'was not seen yet' : 'is away'}`;
  if (raftId === 0) return `${name} to make its voting key`;
  const lag = beat === null ? 0 : state.index - beat.ledgerIndex;
  if (lag > lagMax) return `${name} to catch up: it lacks ${lag} entries`;
  return fetchingText(name, beat);
}

/** Who leaves is kept while the others could not decide without it, or while it may have what they still fetch. */
function leavingWaitsFor(leaving: readonly string[], state: LedgerState, facts: ViewFacts): string | null {
  if (!leaving.some((peer) => facts.presence(peer).online)) return null;
  const staying = votingMembers(state);
  const there = staying.filter(({ peer }) => facts.presence(peer).online).length;
  if (there < majorityOf(staying.length)) {
    return `a majority of those who stay: ${there} of ${staying.length} are there`;
  }
  const texts = staying.map(({ name, peer }) => fetchingText(name, facts.presence(peer).beat));
  return texts.find((text) => text !== null) ?? null;
}

function fetchingText(name: string, beat: Beat | null): string | null {
  const lacking = beat?.keeps?.lacking ?? 0;
  return lacking > 0 ? `${name} to fetch what the ledger names: ${lacking} files are missing there` : null;
}
