// Owns the joining of this room's parts: a command comes in at the socket or from another peer, is judged, carried out where
// the controller is, and its events go back the same way.

import type { CommandEvent, CommandRequest, ControlAsk, ForwardedEntry } from '../../protocols/control.ts';
import { type ErrorRecord, ParleyError } from '../../protocols/errors.ts';
import type { JoinGrant } from '../../protocols/join.ts';
import type { EntryDraft, MemberFacts } from '../../protocols/ledger-entries.ts';
import { judgeJoin } from '../../protocols/ledger-rules.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { clipText } from '../../protocols/primitives.ts';
import type { Startable } from '../interfaces.ts';
import { type Applicant, admitApplicant } from './admission.ts';
import { createAllowance } from './allowance.ts';
import { createAnnouncer, saysTheSame } from './announce.ts';
import {
  authorise,
  authoriseEntry,
  checkSpeaker,
  isOnlyFollowed,
  isReadCommand,
  localActor,
} from './authorise-core.ts';
import { type BeatFacts, createBeats } from './beats.ts';
import { createCatalogue } from './catalogue.ts';
import type { CommandContext } from './commands/command-context.ts';
import { carryOutCommand } from './commands/index.ts';
import type { ControlComponents } from './control-types.ts';
import { createCoordinator } from './coordinator.ts';
import { type CarryOutOptions, createForwarding } from './forward.ts';
import { createPresence, type Presence } from './presence.ts';
import { createReports } from './reports.ts';
import { createControlSocket } from './socket.ts';
import { checkCommandId, stepId } from './step-ids-core.ts';
import {
  diffFolder,
  type FolderRequest,
  followFolder,
  stageFolder,
  stagesFolder,
  uncommittedNote,
  type WorkFolderContext,
} from './work-folder.ts';

export interface ControlInit {
  /** Where the local socket is made: STATE/control.sock. */
  readonly socketPath: string;
  /** This peer's name. */
  readonly name: string;
  /** Lets the socket speak as any operator (the demo). */
  readonly speakAs: boolean;
  /** This program's version, for beats. */
  readonly release: string;
}

export interface Control extends Startable {
  /** Runs a command as the local socket does. The last event is `end` or `error`; refusals before that are thrown. */
  run(request: CommandRequest, signal: AbortSignal): AsyncGenerator<CommandEvent>;
  /** Decides about a stranger that showed a token (for the mesh's join protocol). */
  admit(applicant: Applicant): Promise<JoinGrant>;
  /** What this peer is now; the ledger is told where it says otherwise. */
  announce(facts: MemberFacts): void;
  /** Something in the beat's facts has changed. */
  factsChanged(): void;
  readonly presence: Pick<Presence, 'of' | 'onChange'>;
}

/** A majority answers within a round trip; a leader that hears nothing for this long is none. */
const confirmTimeoutMs = 2_000;
/** Answered from this peer's own replica: they stream, and gain nothing from the controller. */
const localCommands: readonly string[] = ['logs', 'notices'];

export const createControl =
  (init: ControlInit) =>
  (components: ControlComponents): Control => {
    const { ledger, leadership, mesh, clock } = components;
    const logger = components.logger.child({ room: 'control' });
    const shared = { ...components, logger };
    const presence = createPresence(shared);
    const isOnline = (peer: string) => presence.of(peer).online;
    const catalogue = createCatalogue({ ...shared, isOnline });
    const coordinator = createCoordinator({ ...shared, presence, catalogue });
    const reports = createReports({ ...shared, presence });
    const forwarding = createForwarding({ ...shared, carryOut });
    const beats = createBeats({ release: init.release })({
      ...shared,
      facts: () => ({ ...components.facts(), ...troubleOf(leadership.failure()) }),
      recordOwn: presence.recordOwn,
    });
    let stopWatching = (): void => undefined;
    const announcer = createAnnouncer({ ...shared, propose: proposeOwn });
    const allowance = createAllowance(clock);
    const inTurn = createTurns();
    const socket = createControlSocket({ path: init.socketPath })({ logger, clock, run });

    async function* carryOut(ask: ControlAsk, options: CarryOutOptions): AsyncGenerator<CommandEvent> {
      const { sender, current, signal } = options;
      if (ask.kind === 'entry') {
        yield await proposeFor(ask, sender, signal);
        return;
      }
      const { id, actor, command } = ask.request;
      checkCommandId(id);
      if (current && isReadCommand(command.name)) {
        await leadership.confirm({ signal: AbortSignal.any([signal, AbortSignal.timeout(confirmTimeoutMs)]) });
      }
      checkSpeaker(sender, actor, ledger.state());
      if (!isOnlyFollowed(ask.request, ledger.state())) authorise(actor, command, ledger.state());
      if (!isReadCommand(command.name) && !isVoter(sender)) allowance.take(sender);
      yield* carryOutCommand(contextOf(ask.request, options));
    }

    async function proposeFor(
      ask: Extract<ControlAsk, { kind: 'entry' }>,
      sender: string,
      signal: AbortSignal,
    ): Promise<CommandEvent> {
      const { actor, entry, id } = ask;
      const state = ledger.state();
      checkSpeaker(sender, actor, state);
      authoriseEntry(actor, entry, sender, state);
      if (!isKnown(entry, state)) {
        if (entry.kind === 'member-updated') allowance.take(sender);
        // What peers say of themselves and of strangers may come twice: it needs no id, and must not take one of a command.
        const isStep = entry.kind === 'draft-staged' || entry.kind === 'draft-discarded';
        const draft: EntryDraft = { ...entry, actor, ...(isStep ? { commandId: stepId('draft', id) } : {}) };
        await inTurn(() => ledger.propose(draft, { signal }));
      }
      return { kind: 'end', outcome: 'succeeded', task: null, waitsFor: null, text: '', revision: null };
    }

    function isVoter(peer: string): boolean {
      return ledger.state().members[peer]?.roles.includes('voter') ?? false;
    }

    function contextOf(
      request: CommandContext['request'],
      { sender, current, signal }: CarryOutOptions,
    ): CommandContext {
      return {
        components: shared,
        catalogue,
        request,
        sender,
        signal,
        isOnline,
        inTurn,
        facts: () => ({
          controller: leadership.leads() ? mesh.self : leadership.controller(),
          current,
          presence: presence.of,
          waits: coordinator.waits,
          progress: coordinator.progress,
        }),
        onChange(listener) {
          const stops = [ledger.onApplied(listener), presence.onChange(listener), coordinator.onChange(listener)];
          return () => {
            for (const stop of stops) stop();
          };
        },
      };
    }

    /** An entry that this peer needs for itself or for a stranger. */
    async function proposeOwn(entry: ForwardedEntry, signal: AbortSignal): Promise<void> {
      const id = `own-${Buffer.from(components.randomBytes(12)).toString('hex')}`;
      await finish(forwarding.run({ kind: 'entry', version: 1, id, actor: `root@${init.name}`, entry }, signal));
    }

    async function* run(request: CommandRequest, signal: AbortSignal): AsyncGenerator<CommandEvent> {
      const actor = localActor(request, init, ledger.state());
      const { id, command, follow } = request;
      const forwarded = { version: 1 as const, id, command, actor, follow };
      const folder = request.workFolder === undefined ? undefined : { ...request, workFolder: request.workFolder };
      if (localCommands.includes(command.name)) {
        yield* carryOutCommand(contextOf(forwarded, { sender: mesh.self, current: false, signal }));
        return;
      }
      if (folder !== undefined) {
        yield* runInFolder(folder, forwarded, signal);
        return;
      }
      yield* forwarding.run({ kind: 'command', request: forwarded }, signal);
    }

    async function* runInFolder(
      request: FolderRequest,
      forwarded: CommandContext['request'],
      signal: AbortSignal,
    ): AsyncGenerator<CommandEvent> {
      const context = folderContext(request, forwarded.actor, signal);
      if (request.command.name === 'diff') {
        const view = await diffFolder(request, context);
        if (view !== null) {
          yield view;
          yield { kind: 'end', outcome: 'succeeded', task: null, waitsFor: null, text: '', revision: null };
          return;
        }
      } else if (stagesFolder(request)) {
        yield* runOnFolder(request, forwarded, context);
        return;
      } else if (request.command.name === 'deploy') {
        const left = await uncommittedNote(request, context);
        if (left !== null) yield left;
      }
      yield* forwarding.run({ kind: 'command', request: forwarded }, signal);
    }

    /** The folder's changes become the draft first; what the command makes of it is brought into the folder. */
    async function* runOnFolder(
      request: FolderRequest,
      forwarded: CommandContext['request'],
      context: WorkFolderContext,
    ): AsyncGenerator<CommandEvent> {
      authorise(forwarded.actor, request.command, ledger.state());
      const staged = await stageFolder(request, context);
      const following = followFolder(request, staged, context);
      try {
        // A commit or an update is short, and the folder must not be left behind it.
        const follow = forwarded.follow || request.command.name !== 'deploy';
        const ask = { kind: 'command' as const, request: { ...forwarded, follow } };
        for await (const event of forwarding.run(ask, context.signal)) {
          if (event.kind === 'end' || event.kind === 'error') await following.finish();
          yield event;
        }
      } finally {
        following.stop();
      }
    }

    function folderContext(request: FolderRequest, actor: string, signal: AbortSignal): WorkFolderContext {
      let count = 0;
      return {
        components: shared,
        signal,
        async propose(entry) {
          count += 1;
          const id = stepId('draft', `${request.id}:${count}`);
          await finish(forwarding.run({ kind: 'entry', version: 1, id, actor, entry }, signal));
        },
      };
    }

    return {
      run,
      presence,
      admit: (applicant) => admitApplicant(applicant, { ledger, propose: proposeOwn }),
      announce: announcer.announce,
      factsChanged: beats.changed,
      async start() {
        presence.start();
        forwarding.start();
        await beats.start();
        // Also when the own vote is held up, or is no more.
        stopWatching = leadership.onChange(beats.changed);
        announcer.start();
        coordinator.start();
        reports.start();
        await socket.start();
      },
      async stop() {
        await socket.stop();
        await reports.stop();
        await coordinator.stop();
        await announcer.stop();
        stopWatching();
        await beats.stop();
        presence.stop();
      },
    };
  };

/** What changes nothing in the ledger would still fill it. @throws what judgeJoin() refuses. */
function isKnown(entry: ForwardedEntry, state: LedgerState): boolean {
  if (entry.kind === 'member-joined') return 'member' in judgeJoin(state, entry.body);
  if (entry.kind !== 'member-updated') return false;
  const member = state.members[entry.body.peer];
  return member !== undefined && saysTheSame(member, entry.body);
}

/** What a voter that is held up says about itself. */
function troubleOf(failure: ErrorRecord | undefined): Pick<BeatFacts, 'trouble'> {
  if (failure === undefined) return {};
  const { message, hint = 'Look into the log of this peer.' } = failure;
  return { trouble: clipText(`${message}. ${hint}`) };
}

/** Waits for the last event and throws it where it is an error. */
async function finish(events: AsyncIterable<CommandEvent>): Promise<void> {
  for await (const event of events) {
    if (event.kind === 'end') return;
    if (event.kind !== 'error') continue;
    const { code, message, hint, retryable } = event.error;
    throw new ParleyError(code, message, hint === undefined ? { retryable } : { retryable, hint });
  }
}

/** One piece of work after another, whatever becomes of each. */
function createTurns(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const result = last.then(work, work);
    last = result.catch(() => undefined);
    return result;
  };
}
