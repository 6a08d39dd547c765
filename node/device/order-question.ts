// Owns the last look before an order is armed: voters are asked whether it is still the newest one. A majority's yes, or that
// no majority can be reached, lets it pass; a majority that does not confirm it, or a no of somebody who knows more, holds it.

import { allVoters, isPeerMajority } from '../../protocols/certificate.ts';
import { decode, encode } from '../../protocols/codec.ts';
import type { SlotRecord } from '../../protocols/device-record.ts';
import { fromErrorRecord, ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import type { LedgerState, Order } from '../../protocols/ledger-state.ts';
import {
  type OrderAnswer,
  type OrderQuestion,
  orderAnswerSchema,
  orderNonceBytes,
  orderQuestionBytesMax,
  orderQuestionProtocol,
  orderQuestionSchema,
} from '../../protocols/order-question.ts';
import type { MessageStream } from '../interfaces.ts';
import { pause, within } from '../waiting.ts';
import { compareFloor, orderHash } from './device-core.ts';
import type { DeviceComponents } from './device-types.ts';
import { exchange } from './exchange.ts';
import { explain, type Job } from './job.ts';

/** Voters that can be reached answer from memory; those that cannot must not hold an order for long. */
const answerMs = 3_000;
/** How long the own ledger may take to learn what a voter knows; then voters are asked again. */
const catchUpMs = 30_000;
/** Voters that do not confirm an order are asked again: soon, since one that lags catches up soon, then seldom. */
const askAgainFirstMs = 1_000;
const askAgainMaxMs = 30_000;

type Answer = OrderAnswer & { readonly kind: 'answer' };

interface Round {
  /** Voters by what they said; both ids of one that votes under two count. */
  readonly yes: ReadonlySet<string>;
  readonly no: ReadonlySet<string>;
  /** One of those that said no and knows more than this peer. */
  readonly wiser: { readonly name: string; readonly answer: Answer } | undefined;
  readonly count: number;
}

/**
 * Resolves once the order may be armed: a majority of the voters in force has confirmed it, or a majority cannot be reached
 * and nobody who knows more has said no. Where a majority is there and does not confirm it, they are asked again and again.
 * Rejects with the reason of `job.withdrawn`.
 */
export async function confirmCurrent(job: Job, record: SlotRecord): Promise<void> {
  const { ledger, clock } = job.components;
  for (let pauseMs = askAgainFirstMs; ; pauseMs = Math.min(2 * pauseMs, askAgainMaxMs)) {
    const { voterSet } = ledger.state();
    const { yes, no, wiser, count } = await askVoters(job, record);
    job.withdrawn.throwIfAborted();
    const isConfirmed = isPeerMajority(voterSet, yes);
    const isReached = isPeerMajority(voterSet, new Set([...yes, ...no]));
    const hasWaited = pauseMs > askAgainFirstMs;
    const found = `${yes.size} of ${count} voters say that the order is the newest one`;
    if (isConfirmed ? wiser === undefined || hasWaited : wiser === undefined && !isReached) {
      job.log(
        isConfirmed ? found : `${found}; the others could not be reached in time`,
        isConfirmed ? 'info' : 'warning',
      );
      return;
    }
    job.show('rooted', 'waiting until the voters confirm that the order is the newest one');
    if (wiser === undefined) job.log(`${found}, and ${no.size} do not: they are asked again`, 'warning');
    else await caughtUp(job, wiser);
    await pause(clock, pauseMs, job.withdrawn);
  }
}

async function askVoters(job: Job, record: SlotRecord): Promise<Round> {
  const { init, components } = job;
  const state = components.ledger.state();
  const peers = new Set(allVoters(state.voterSet).map(({ peer }) => peer));
  const nameOf = (peer: string): string => state.members[peer]?.name ?? peer;
  const [yes, no] = [new Set<string>(), new Set<string>()];
  let wiser: Round['wiser'];
  const asked = [...peers].map(async (peer) => {
    try {
      const answer =
        peer === init.self ? answerOf(questionOf(job, record), init.self, state) : await ask(job, record, peer);
      (answer.isCurrent ? yes : no).add(peer);
      if (answer.isCurrent) return;
      if (answer.ledgerIndex > state.index || compareFloor(answer, record) > 0) wiser = { name: nameOf(peer), answer };
      else job.log(`'${nameOf(peer)}' does not know the order: its ledger is at entry ${answer.ledgerIndex}`, 'debug');
    } catch (error) {
      job.withdrawn.throwIfAborted();
      job.log(`'${nameOf(peer)}' was not asked: ${explain(error)}`, 'debug');
    }
  });
  await Promise.all(asked);
  return { yes, no, wiser, count: peers.size };
}

function questionOf({ init, components }: Job, { generation, number, hash }: SlotRecord): OrderQuestion {
  const nonce = components.randomBytes(orderNonceBytes);
  return { version: 1, nonce, host: init.host, slot: 'system', generation, number, hash };
}

async function ask(job: Job, record: SlotRecord, peer: string): Promise<Answer> {
  const question = questionOf(job, record);
  const to = { peer, protocol: orderQuestionProtocol, limitMs: answerMs, outer: job.withdrawn };
  const read = (message: Uint8Array): Answer => {
    const answer = decode(orderAnswerSchema, message, orderQuestionBytesMax, 'answer about an order');
    if (answer.kind === 'error') throw fromErrorRecord(answer.error);
    if (Buffer.compare(answer.nonce, question.nonce) !== 0) {
      throw new ParleyError('malformed', `the answer of '${peer}' is to another question`);
    }
    return answer;
  };
  return exchange(job.components, { ...to, question, read });
}

/** Resolves when the own ledger has come as far as who knows more, or has had its time. */
async function caughtUp(job: Job, { name, answer }: NonNullable<Round['wiser']>): Promise<void> {
  const { ledger, clock } = job.components;
  const { number, ledgerIndex: index } = answer;
  job.log(`'${name}' says that the newest order is ${number || 'none'}: waiting for entry ${index}`, 'warning');
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const look = (): void => {
    if (ledger.state().index >= index) resolve();
  };
  const unsubscribe = ledger.onApplied(look);
  const cancel = clock.after(catchUpMs, resolve);
  const abort = (): void => reject(job.withdrawn.reason);
  job.withdrawn.addEventListener('abort', abort);
  try {
    look();
    if (job.withdrawn.aborted) abort();
    await promise;
  } finally {
    unsubscribe();
    cancel();
    job.withdrawn.removeEventListener('abort', abort);
  }
}

/** What this peer's ledger says to a question of a device. */
function answerOf(question: OrderQuestion, device: string, { orders, index }: LedgerState): Answer {
  const order: Order | undefined = orders[question.host];
  const isCurrent =
    order !== undefined &&
    !order.cancelled &&
    order.peer === device &&
    compareFloor(order, question) === 0 &&
    orderHash(order) === question.hash;
  const { generation = 0, number = 0 } = order ?? {};
  return { kind: 'answer', nonce: question.nonce, isCurrent, generation, number, ledgerIndex: index };
}

/** Answers `/parley/order-question/1` from now on. */
export function serveOrderQuestions({
  mesh,
  ledger,
  clock,
}: Pick<DeviceComponents, 'mesh' | 'ledger' | 'clock'>): void {
  const handler = async (stream: MessageStream) => {
    const late = (): Error => new Error(`no question within ${answerMs} ms`);
    const message = await within({ clock, limitMs: answerMs, late }, (signal) => stream.receive({ signal }));
    if (message === undefined) return;
    await stream.send(encode(answer(stream.peer, message)));
    await stream.close();
  };

  function answer(device: string, message: Uint8Array): OrderAnswer {
    try {
      const question = decode(orderQuestionSchema, message, orderQuestionBytesMax, 'question about an order');
      return answerOf(question, device, ledger.state());
    } catch (error) {
      return { kind: 'error', error: toErrorRecord(error) };
    }
  }

  mesh.handle(orderQuestionProtocol, handler, { messageBytesMax: 4 * orderQuestionBytesMax, inboundStreamsMax: 4 });
}
