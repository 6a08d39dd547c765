// Owns the handlers for etcd's small data files: configuration changes and quorums.

import {
  changeSimple,
  enterJoint,
  ImpossibleChange,
  leaveJoint,
  type Membership,
  noMembers,
} from '../../node/consensus/core/configuration.ts';
import * as quorum from '../../node/consensus/core/quorum.ts';
import type { Directive } from './datadriven.ts';
import { describeMembers, describeProgress, describeQuorum, parseSteps } from './etcd-text.ts';
import { commandOf, numbers, truth } from './grammar.ts';

const changeGrammar = {
  simple: { input: 'optional' },
  'enter-joint': { named: { autoleave: truth }, input: 'optional' },
  'leave-joint': {},
} as const;

const voters = { cfg: numbers, cfgj: /^(zero|\d+(,\d+)*)$/ };
const quorumGrammar = {
  committed: { named: { ...voters, idx: /^(_|[1-9]\d*)(,(_|[1-9]\d*))*$/ } },
  vote: { named: { ...voters, votes: /^[yn_](,[yn_])*$/ } },
} as const;

const limits = { inflightMessagesMax: 10, inflightBytesMax: Number.POSITIVE_INFINITY };

/** Configuration changes, one after the other; the last index grows with each. */
export function createChanges(): (directive: Directive) => string {
  let membership: Membership = { members: noMembers, progress: new Map() };
  let lastIndex = -1;
  return (directive) => {
    lastIndex += 1;
    const command = commandOf(directive, changeGrammar);
    const steps = parseSteps(directive.input);
    try {
      if (command === 'simple') membership = changeSimple(membership, steps, lastIndex, limits);
      else if (command === 'leave-joint') membership = leaveJoint(membership);
      else membership = enterJoint(membership, steps, isAutoLeave(directive), lastIndex, limits);
    } catch (error) {
      if (error instanceof ImpossibleChange) return error.message;
      throw error;
    }
    const ids = quorum.sortedIds(membership.progress.keys());
    const lines = ids.flatMap((raftId) => {
      const progress = membership.progress.get(raftId);
      return progress ? [describeProgress(raftId, progress)] : [];
    });
    return [describeMembers(membership.members), ...lines].join('\n');
  };
}

function isAutoLeave(directive: Directive): boolean {
  return directive.arguments.some(({ key, values }) => key === 'autoleave' && values[0] === 'true');
}

/** Quorum cases; like etcd's harness, checks also what must not make a difference, and says where it does. */
export function createQuorums(): (directive: Directive) => string {
  return (directive) => {
    const command = commandOf(directive, quorumGrammar);
    const values = (key: string): readonly string[] | undefined =>
      directive.arguments.find((argument) => argument.key === key)?.values;
    const incoming = (values('cfg') ?? []).map(Number);
    const joint = values('cfgj');
    const outgoing = joint?.[0] === 'zero' ? [] : (joint ?? []).map(Number);
    const given = command === 'vote' ? values('votes') : values('idx');
    const ids = [...new Set([...incoming, ...outgoing])];
    if (ids.length !== (given?.length ?? 0))
      return `error: mismatched input (explicit or _) for voters [${ids}]: ${given}`;
    const known = new Map(
      ids.map((raftId, position) => [raftId, given?.[position]] as const).filter(([, text]) => text !== '_'),
    );
    const voters = { incoming: new Set(incoming), outgoing: new Set(outgoing) };
    if (command === 'vote') {
      const votes = new Map([...known].map(([raftId, text]) => [raftId, text === 'y'] as const));
      return describeVote(voters, votes, joint !== undefined);
    }
    const acked = new Map([...known].map(([raftId, text]) => [raftId, Number(text)] as const));
    return describeCommitted(voters, acked, joint !== undefined);
  };
}

const swapped = ({ incoming, outgoing }: quorum.JointVoters): quorum.JointVoters => ({
  incoming: outgoing,
  outgoing: incoming,
});

function describeVote(voters: quorum.JointVoters, votes: ReadonlyMap<number, boolean>, isJoint: boolean): string {
  const names = { pending: 'VotePending', lost: 'VoteLost', won: 'VoteWon' };
  if (!isJoint) return names[quorum.majorityVote(voters.incoming, votes)];
  const result = quorum.jointVote(voters, votes);
  const mirrored = quorum.jointVote(swapped(voters), votes);
  return mirrored === result ? names[result] : `${names[mirrored]} <-- via symmetry\n${names[result]}`;
}

function describeCommitted(voters: quorum.JointVoters, acked: ReadonlyMap<number, number>, isJoint: boolean): string {
  const look: quorum.AckedIndex = (raftId) => acked.get(raftId);
  const text = (index: number): string => (index === Number.POSITIVE_INFINITY ? '∞' : String(index));
  if (isJoint) {
    const index = quorum.jointIndex(voters, look);
    const mirrored = quorum.jointIndex(swapped(voters), look);
    const chart = describeQuorum(new Set(quorum.voterIds(voters)), look);
    return `${chart}${mirrored === index ? '' : `${text(mirrored)} <-- via symmetry\n`}${text(index)}`;
  }
  const index = quorum.majorityIndex(voters.incoming, look);
  let lines = describeQuorum(voters.incoming, look);
  const alternatives = {
    'via zero-joint quorum': quorum.jointIndex({ incoming: voters.incoming, outgoing: new Set() }, look),
    'via self-joint quorum': quorum.jointIndex({ incoming: voters.incoming, outgoing: voters.incoming }, look),
  };
  for (const [name, other] of Object.entries(alternatives))
    if (other !== index) lines += `${text(other)} <-- ${name}\n`;
  for (const [raftId, own] of acked) {
    if (own >= index || !voters.incoming.has(raftId)) continue;
    // What lies below the committed index already may sink further without changing it.
    for (const lower of [own - 1, 0]) {
      const other = quorum.majorityIndex(voters.incoming, (id) => (id === raftId ? lower : acked.get(id)));
      if (other !== index) lines += `${text(other)} <-- overlaying ${raftId}->${lower}`;
    }
  }
  return `${lines}${text(index)}`;
}
