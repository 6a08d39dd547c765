// Owns the commands about who votes and who belongs to the fleet: they submit what is to be and follow until consensus has
// carried it out, or say what that waits for.

import { allVoters } from '../../../protocols/certificate.ts';
import type { Command } from '../../../protocols/control.ts';
import { ParleyError } from '../../../protocols/errors.ts';
import {
  earlierResult,
  isAbout,
  type StatedCommand,
  votersWarning,
  votingMembers,
} from '../../../protocols/ledger-rules.ts';
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
/** A command with the peers that its names stand for. */
type Change = Extract<StatedCommand, { readonly kind: (typeof votersKinds)[ChangeCommand['name']] }>;

/** A peer that takes up its vote is away for a moment; one that is away for longer is waited for by nobody. */
const patienceMs = 20_000;
const tickMs = 1_000;

export async function* showVoters(context: CommandContext): CommandEvents {
  yield { kind: 'view', view: 'voters', data: votersView(stateOf(context), context.facts()) };
  yield endEvent({ text: '' });
}

export async function* changeVoters(context: CommandContext, command: ChangeCommand): CommandEvents {
  const change = earlierChange(context, command) ?? (await submitChange(context, command));
  if (context.request.follow) yield* followChange(context, command, change);
  else {
    const { text, waitsFor } = standingOf(context, change) ?? {
      text: doneText(command, stateOf(context)),
      waitsFor: null,
    };
    yield endEvent({ text: waitsFor === null ? text : `${text}; that waits for ${waitsFor}`, waitsFor });
  }
}

/** The change that the command became when it was given before. @throws what earlierTask() throws, ParleyError `unknown-host`. */
function earlierChange(context: CommandContext, command: ChangeCommand): Change | undefined {
  const state = stateOf(context);
  const { id, actor } = context.request;
  const known = earlierResult(state, { commandId: id, actor, kind: votersKinds[command.name] });
  if (known === undefined) return undefined;
  const past = changesMeant(command, (name) => peersOnceNamed(name, state)).find((change) => isAbout(known, change));
  const change = past ?? changeOf(command, state);
  earlierTask(context, change);
  return change;
}

async function submitChange(context: CommandContext, command: ChangeCommand): Promise<Change> {
  const change = changeOf(command, stateOf(context));
  checkMajorityLeft(command, context);
  await submit(context, change);
  return change;
}

/** @throws ParleyError `unknown-host`. */
function changeOf(command: ChangeCommand, state: LedgerState): Change {
  const [change] = changesMeant(command, (name) => [peerNamed(name, state).peer]);
  if (change !== undefined) return change;
  throw new Error(`'${command.name}' of known peers means nothing`);
}

/** A name may be another peer's by now, or nobody's. */
function peersOnceNamed(name: string, { members, removedPeers }: LedgerState): string[] {
  return [...Object.values(members), ...removedPeers].filter((peer) => peer.name === name).map(({ peer }) => peer);
}

/** What a command comes to, for each peer that its names may stand for. */
function changesMeant(command: ChangeCommand, peersNamed: (name: string) => readonly string[]): Change[] {
  const peers = peersNamed(command.host);
  switch (command.name) {
    case 'voters-add':
      return peers.map((peer) => ({ kind: 'voter-added', body: { peer, replaces: null } }));
    case 'voters-replace':
      return peersNamed(command.by).flatMap((peer) =>
        peers.map((replaces): Change => ({ kind: 'voter-added', body: { peer, replaces } })),
      );
    case 'voters-remove':
      return peers.map((peer) => ({ kind: 'voter-removed', body: { peer } }));
    case 'peers-remove':
      return peers.map((peer) => ({ kind: 'member-removed', body: { peer } }));
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

async function* followChange(context: CommandContext, command: ChangeCommand, change: Change): CommandEvents {
  const { clock } = context.components;
  let told = '';
  let waiting = { for: '', sinceMs: 0 };
  for await (const _ of changes(withTicks(context))) {
    const standing = standingOf(context, change);
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

/** What is still to come of the change, or null when it is in force. @throws ParleyError `joined-again`, `given-back`. */
function standingOf(context: CommandContext, change: Change): ReturnType<typeof votersChange> {
  const state = stateOf(context);
  const standing = votersChange(state, context.facts()) ?? { text: 'the change is taking effect', waitsFor: null };
  return isInForce(change, state) ? null : standing;
}

function isInForce({ kind, body }: Change, state: LedgerState): boolean {
  const { [body.peer]: member } = state.members;
  const isCounted = (gone: string): boolean =>
    state.members[gone] !== undefined && allVoters(state.voterSet).some(({ peer }) => peer === gone);
  switch (kind) {
    case 'voter-added':
      // Where somebody took the role away meanwhile there is nothing to wait for.
      if (member?.roles.includes('voter') && !(isVoting(state, member) && state.joint === null)) return false;
      return body.replaces === null || !isCounted(body.replaces);
    case 'voter-removed':
      if (member?.roles.includes('voter')) throw givenBack(member);
      return !isCounted(body.peer);
    case 'member-removed':
      if (member !== undefined && member.leaving === undefined) throw joinedAgain(member);
      return member === undefined;
  }
}

function givenBack({ name }: Member): ParleyError {
  return new ParleyError('given-back', `'${name}' is to vote: it was given its vote back since that was taken`, {
    hint: 'Give the command under a fresh id to take it once more.',
  });
}

function joinedAgain({ name }: Member): ParleyError {
  return new ParleyError('joined-again', `'${name}' is a member: it has joined again since it was removed`, {
    hint: 'Give the command under a fresh id to remove it once more.',
  });
}

function doneText(command: ChangeCommand, state: LedgerState): string {
  const voters = votingMembers(state).map(({ name }) => name);
  const warning = votersWarning(voters.length);
  const who = `${voters.join(', ')} ${voters.length === 1 ? 'votes' : 'vote'} now`;
  const text = command.name === 'peers-remove' ? `${command.host} was removed; ${who}` : who;
  return warning === undefined ? text : `${text}; ${warning}`;
}
