// Owns the commands about who votes and who belongs to the fleet: they submit what is to be and follow until consensus has
// carried it out, or say what that waits for.

import { allVoters } from '../../../protocols/certificate.ts';
import type { Command } from '../../../protocols/control.ts';
import { ParleyError } from '../../../protocols/errors.ts';
import { votersWarning, votingMembers } from '../../../protocols/ledger-rules.ts';
import type { LedgerState, Member } from '../../../protocols/ledger-state.ts';
import { votersKinds } from '../authorise-core.ts';
import { isVoting, majorityOf, votersChange, votersView } from '../voters-view-core.ts';
import {
  type CommandContext,
  type CommandEvents,
  changes,
  earlierTask,
  endEvent,
  peerNamed,
  stateOf,
  submit,
} from './command-context.ts';

type Of<N extends Command['name']> = Extract<Command, { name: N }>;
type ChangeCommand = Of<'voters-add' | 'voters-remove' | 'voters-replace' | 'peers-remove'>;

/** A peer that takes up its vote is away for a moment; one that is away for longer is waited for by nobody. */
const patienceMs = 20_000;
const tickMs = 1_000;

export async function* showVoters(context: CommandContext): CommandEvents {
  yield { kind: 'view', view: 'voters', data: votersView(stateOf(context), context.facts()) };
  yield endEvent({ text: '' });
}

export async function* changeVoters(context: CommandContext, command: ChangeCommand): CommandEvents {
  if (earlierTask(context, votersKinds[command.name]) === undefined) {
    const draft = draftOf(command, stateOf(context));
    checkMajorityLeft(command, context);
    await submit(context, draft);
  }
  if (context.request.follow) yield* followChange(context, command);
  else {
    const { text, waitsFor } = standingOf(context, command) ?? {
      text: doneText(command, stateOf(context)),
      waitsFor: null,
    };
    yield endEvent({ text: waitsFor === null ? text : `${text}; that waits for ${waitsFor}`, waitsFor });
  }
}

function draftOf(command: ChangeCommand, state: LedgerState) {
  const { peer } = peerNamed(command.host, state);
  switch (command.name) {
    case 'voters-add':
      return { kind: 'voter-added' as const, body: { peer, replaces: null } };
    case 'voters-replace':
      return { kind: 'voter-added' as const, body: { peer: peerNamed(command.by, state).peer, replaces: peer } };
    case 'voters-remove':
      return { kind: 'voter-removed' as const, body: { peer } };
    case 'peers-remove':
      return { kind: 'member-removed' as const, body: { peer } };
  }
}

/** Voters that are left must be able to decide, or the change itself would never end. @throws ParleyError `no-majority-left`. */
function checkMajorityLeft(command: ChangeCommand, context: CommandContext): void {
  if (command.name === 'voters-add') return;
  const state = stateOf(context);
  const gone = peerNamed(command.host, state);
  // Who votes once all that was asked for before is in force, not who does now.
  const wanted = votingMembers(state).map(({ peer }) => peer);
  if (!wanted.includes(gone.peer)) return;
  const added = command.name === 'voters-replace' ? [peerNamed(command.by, state).peer] : [];
  const left = [...wanted.filter((peer) => peer !== gone.peer), ...added];
  const away = left.filter((peer) => !context.isOnline(peer)).flatMap((peer) => state.members[peer]?.name ?? []);
  const there = left.length - away.length;
  if (left.length === 0 || there >= majorityOf(left.length)) return;
  const text = `without '${gone.name}' nothing could be decided: ${there} of ${left.length} voters would be there, ${away.sort().join(', ')} away`;
  throw new ParleyError('no-majority-left', text, {
    hint: `Start ${away.join(' or ')} first, or remove it before '${gone.name}'.`,
  });
}

async function* followChange(context: CommandContext, command: ChangeCommand): CommandEvents {
  const { clock } = context.components;
  let told = '';
  let waiting = { for: '', sinceMs: 0 };
  for await (const _ of changes(withTicks(context))) {
    const standing = standingOf(context, command);
    if (standing === null) {
      yield endEvent({ text: doneText(command, stateOf(context)) });
      return;
    }
    const { text, waitsFor } = standing;
    const now = waitsFor === null ? text : `${text}; that waits for ${waitsFor}`;
    if (waitsFor !== waiting.for) waiting = { for: waitsFor ?? '', sinceMs: clock.monotonicMs() };
    if (waitsFor !== null && clock.monotonicMs() - waiting.sinceMs > patienceMs) {
      yield endEvent({ text: now, waitsFor });
      return;
    }
    if (now === told) continue;
    told = now;
    yield { kind: 'progress', text: now.slice(0, 2_000) };
  }
}

/** Waiting goes on while nothing changes. */
function withTicks(context: CommandContext): CommandContext {
  return {
    ...context,
    onChange(listener) {
      const stops = [context.onChange(listener), context.components.clock.every(tickMs, listener)];
      return () => {
        for (const stop of stops) stop();
      };
    },
  };
}

/** What is still to come of the command, or null when it is in force. */
function standingOf(context: CommandContext, command: ChangeCommand): ReturnType<typeof votersChange> {
  const state = stateOf(context);
  const change = votersChange(state, context.facts()) ?? { text: 'the change is taking effect', waitsFor: null };
  return isInForce(command, state) ? null : change;
}

function isInForce(command: ChangeCommand, state: LedgerState): boolean {
  const counted = (name: string): boolean => {
    const member = memberOf(name, state);
    return member !== undefined && allVoters(state.voterSet).some(({ peer }) => peer === member.peer);
  };
  const votes = (name: string): boolean => {
    const member = memberOf(name, state);
    // Somebody took the role away meanwhile: there is nothing to wait for.
    if (member === undefined || !member.roles.includes('voter')) return true;
    return isVoting(state, member) && state.joint === null;
  };
  switch (command.name) {
    case 'voters-add':
      return votes(command.host);
    case 'voters-replace':
      return votes(command.by) && !counted(command.host);
    case 'voters-remove':
      return !counted(command.host);
    case 'peers-remove':
      return memberOf(command.host, state)?.leaving === undefined;
  }
}

function memberOf(name: string, state: LedgerState): Member | undefined {
  return Object.values(state.members).find((member) => member.name === name);
}

function doneText(command: ChangeCommand, state: LedgerState): string {
  const voters = votingMembers(state).map(({ name }) => name);
  const warning = votersWarning(voters.length);
  const who = `${voters.join(', ')} ${voters.length === 1 ? 'votes' : 'vote'} now`;
  const text = command.name === 'peers-remove' ? `${command.host} was removed; ${who}` : who;
  return warning === undefined ? text : `${text}; ${warning}`;
}
