// Owns the way of a command to the controller and of its events back: carried out here when this peer leads, else over
// `/parley/control/1`. When the controller is lost on the way, the same request goes to the next one with the same id;
// after 15 seconds without any, reads are answered from here and changes end as "unknown, ask again".

import { decode, encode } from '../../protocols/codec.ts';
import {
  type CommandEvent,
  type ControlAnswer,
  type ControlAsk,
  commandBytesMax,
  controlAskSchema,
  controlProtocol,
} from '../../protocols/control.ts';
import { ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import type { Clock, Logger, Mesh, MessageStream } from '../interfaces.ts';
import { isReadCommand } from './authorise-core.ts';
import type { ControlLedger, Leadership } from './control-types.ts';
import { Redirected, readAnswer, sendEvent } from './controller-answers.ts';
import { createSearch } from './controller-search.ts';

/** How long a command looks for a controller before it gives up (design: failover takes about a second). */
const searchMs = 15_000;
/** Reads rather show what is known here than make a person wait. */
const readSearchMs = 2_000;
/** To open a stream to a peer that may be gone. */
const openTimeoutMs = 3_000;
/** The local replica follows the controller by a few milliseconds; a peer that lags longer answers all the same. */
const catchUpMs = 5_000;
/** Commands that one peer may have under way here: follows of the people at its sockets. */
const streamsPerPeerMax = 128;

export interface CarryOutOptions {
  /** The peer that forwarded the request; this peer's own id for its socket. */
  readonly sender: string;
  /** False where this peer does not lead and answers from its replica. */
  readonly current: boolean;
  readonly signal: AbortSignal;
}

export interface ForwardingComponents {
  readonly mesh: Pick<Mesh, 'self' | 'handle' | 'open' | 'connectedPeers'>;
  readonly ledger: Pick<ControlLedger, 'state' | 'waitFor'>;
  readonly leadership: Leadership;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Carries a request out on this peer, which leads or, for reads, answers from its replica. */
  readonly carryOut: (ask: ControlAsk, options: CarryOutOptions) => AsyncGenerator<CommandEvent>;
}

export interface Forwarding {
  /** Events of a request, the last one being `end` or `error`, wherever the controller is. */
  run(ask: ControlAsk, signal: AbortSignal): AsyncGenerator<CommandEvent>;
  start(): void;
}

/** Errors after which the same request goes to the next controller. */
const lostCodes: readonly string[] = ['not-controller', 'outcome-unknown', 'proposal-lost', 'not-started'];

export function createForwarding(components: ForwardingComponents): Forwarding {
  const { mesh, ledger, leadership, clock, logger, carryOut } = components;

  async function* run(ask: ControlAsk, signal: AbortSignal): AsyncGenerator<CommandEvent> {
    const isRead = ask.kind === 'command' && isReadCommand(ask.request.command.name);
    const search = createSearch(isRead ? readSearchMs : searchMs, clock);
    let hint: string | null = null;
    let mayHaveBegun = false;
    while (!search.isOver()) {
      const target = nextTarget(hint, search.attempts);
      hint = null;
      if (target !== undefined) {
        try {
          for await (const event of attempt(target, ask, signal)) {
            search.restart();
            mayHaveBegun = true;
            yield event;
            if (event.kind === 'end' || event.kind === 'error') return;
          }
        } catch (error) {
          if (signal.aborted) throw signal.reason;
          if (!(error instanceof Redirected)) throw error;
          logger.debug({ target, cause: String(error.cause ?? '') }, 'the controller could not be asked');
          hint = error.controller === target ? null : error.controller;
          mayHaveBegun ||= error.mayHaveBegun;
        }
      }
      if (hint === null || search.attempts > 4) await search.pause(leadership, signal);
      search.attempts += 1;
    }
    if (!isRead) throw mayHaveBegun ? outcomeUnknown() : noController();
    yield* carryOut(ask, { sender: mesh.self, current: false, signal });
  }

  /** Whom to ask: ourselves when we lead, whom we know or were told to lead, else one connected voter after another. */
  function nextTarget(hint: string | null, attempts: number): string | undefined {
    if (leadership.leads()) return mesh.self;
    const known = hint ?? leadership.controller();
    if (known !== null && known !== mesh.self) return known;
    if (leadership.controller() === mesh.self) return undefined;
    const { members } = ledger.state();
    const voters = mesh.connectedPeers().filter(({ peer }) => members[peer]?.roles.includes('voter'));
    return voters[attempts % Math.max(1, voters.length)]?.peer;
  }

  async function* attempt(target: string, ask: ControlAsk, signal: AbortSignal): AsyncGenerator<CommandEvent> {
    if (target !== mesh.self) {
      yield* askPeer(target, ask, signal);
      return;
    }
    for await (const event of carryOutWhileLeading(ask, mesh.self, signal)) {
      if (event.kind === 'error' && lostCodes.includes(event.error.code))
        throw new Redirected(null, event.error.code !== 'not-controller', event.error.message);
      yield event;
    }
  }

  /** Ends with an error of lostCodes as soon as this peer does not lead any more. */
  async function* carryOutWhileLeading(
    ask: ControlAsk,
    sender: string,
    signal: AbortSignal,
  ): AsyncGenerator<CommandEvent> {
    const lost = new AbortController();
    const stopWatching = leadership.onChange(() => {
      if (!leadership.leads()) lost.abort(notController());
    });
    try {
      if (!leadership.leads()) throw notController();
      const either = AbortSignal.any([signal, lost.signal]);
      for await (const event of carryOut(ask, { sender, current: true, signal: either })) yield event;
    } catch (error) {
      if (signal.aborted) throw error;
      if (!lost.signal.aborted && !(error instanceof ParleyError)) logger.error({ error }, 'a command broke');
      yield { kind: 'error', error: toErrorRecord(lost.signal.aborted ? outcomeUnknown() : error) };
    } finally {
      stopWatching();
    }
  }

  async function* askPeer(target: string, ask: ControlAsk, signal: AbortSignal): AsyncGenerator<CommandEvent> {
    const stream = await openStream(target, signal);
    let isDone = false;
    try {
      await stream.send(encode(ask));
      yield* readAnswers(stream, signal);
      isDone = true;
      await stream.close();
    } catch (error) {
      if (error instanceof Redirected || signal.aborted) throw error;
      if (error instanceof ParleyError && !error.retryable) throw error;
      throw new Redirected(null, true, error);
    } finally {
      if (!isDone) stream.abort(new Error('the answer is not wanted any more'));
    }
  }

  async function openStream(target: string, signal: AbortSignal): Promise<MessageStream> {
    try {
      const opening = AbortSignal.any([signal, AbortSignal.timeout(openTimeoutMs)]);
      return await mesh.open(target, controlProtocol, { signal: opening });
    } catch (error) {
      throw new Redirected(null, false, error);
    }
  }

  /** The last event is held back until this peer's own replica shows what it tells of. */
  async function* readAnswers(stream: MessageStream, signal: AbortSignal): AsyncGenerator<CommandEvent> {
    let last: CommandEvent | undefined;
    for (;;) {
      const answer = await readAnswer(stream, signal);
      if (answer.kind === 'done') {
        await catchUp(answer.ledgerIndex, signal);
        if (last !== undefined) yield last;
        return;
      }
      if (last !== undefined) throw new ParleyError('malformed', 'the controller answered after its last event');
      const event = answer.event;
      if (event.kind === 'error' && lostCodes.includes(event.error.code))
        throw new Redirected(null, event.error.code !== 'not-controller', event.error.message);
      if (event.kind === 'end' || event.kind === 'error') last = event;
      else yield event;
    }
  }

  async function catchUp(index: number, signal: AbortSignal): Promise<void> {
    const waiting = AbortSignal.any([signal, AbortSignal.timeout(catchUpMs)]);
    await ledger
      .waitFor((state) => state.index >= index, waiting)
      .catch((error: unknown) => {
        if (signal.aborted) throw error;
        logger.warn({ index }, 'the local replica lags behind the controller');
      });
  }

  async function serve(stream: MessageStream): Promise<void> {
    const gone = new AbortController();
    const bytes = await stream.receive({ signal: AbortSignal.timeout(openTimeoutMs) });
    if (bytes === undefined) return stream.close();
    const ask = decode(controlAskSchema, bytes, commandBytesMax + 1024, 'forwarded request');
    if (!leadership.leads()) {
      await stream.send(encode({ kind: 'redirect', controller: leadership.controller() } satisfies ControlAnswer));
      return stream.close();
    }
    // Nothing more comes from the asker: whatever ends this reading means that it is gone.
    stream.receive().then(
      () => gone.abort(new ParleyError('cancelled', 'the asking peer hung up')),
      (error: unknown) => gone.abort(error),
    );
    for await (const event of carryOutWhileLeading(ask, stream.peer, gone.signal)) await sendEvent(stream, event);
    await stream.send(encode({ kind: 'done', ledgerIndex: ledger.state().index } satisfies ControlAnswer));
    await stream.close();
  }

  return {
    run,
    start() {
      mesh.handle(controlProtocol, serve, {
        inboundStreamsMax: streamsPerPeerMax,
        messageBytesMax: commandBytesMax + 1024,
      });
    },
  };
}

function notController(): ParleyError {
  return new ParleyError('not-controller', 'this peer does not lead (any more)', { retryable: true });
}

function noController(): ParleyError {
  return new ParleyError('no-controller', `no controller could be reached for ${searchMs / 1000} s: nothing was done`, {
    retryable: true,
    hint: 'A majority of the voters must be up and reachable: `status` shows who is there.',
  });
}

function outcomeUnknown(): ParleyError {
  const text = `the controller was lost before it had answered, and no other was found for ${searchMs / 1000} s`;
  return new ParleyError('outcome-unknown', `${text}: what was asked may have been done`, {
    retryable: true,
    hint: 'Ask again with the same id: a command is applied once. `tasks` shows what was started.',
  });
}
