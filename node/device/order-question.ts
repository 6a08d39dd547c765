// Owns the last look before an order is armed: voters are asked whether it is still the newest one. A majority's yes, or that
// the others cannot be reached, lets it pass; a no of somebody who knows more holds it until the own ledger knows as much.

import { isVoterMajority } from '../../protocols/certificate.ts';
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
import { compareFloor, orderHash } from './device-core.ts';
import type { DeviceComponents } from './device-types.ts';
import { explain, type Job } from './job.ts';

/** Voters that can be reached answer from memory; those that cannot must not hold an order for long. */
const answerMs = 3_000;
/** How long the own ledger may take to learn what a voter knows; then voters are asked again. */
const catchUpMs = 30_000;

type Answer = OrderAnswer & { readonly kind: 'answer' };

interface Round {
  /** Raft ids of voters that said yes, the own one included. */
  readonly yes: ReadonlySet<number>;
  /** The answer of a voter that knows more and says no. */
  readonly no: { readonly name: string; readonly answer: Answer } | undefined;
  readonly count: number;
}

/**
 * Resolves once the order may be armed: a majority of the voters in force has confirmed it, or the rest of them cannot be
 * reached and nobody who knows more has said no. Rejects with the reason of `job.withdrawn`.
 */
export async function confirmCurrent(job: Job, record: SlotRecord): Promise<void> {
  const { ledger } = job.components;
  for (let hasWaited = false; ; hasWaited = true) {
    const { voterSet } = ledger.state();
    if (voterSet.voters.length === 0) return;
    const { yes, no, count } = await askVoters(job, record);
    job.withdrawn.throwIfAborted();
    const isConfirmed = isVoterMajority(voterSet, yes);
    if (no === undefined || (hasWaited && isConfirmed)) {
      const rest = isConfirmed ? '' : '; the others could not be reached in time';
      const text = `${yes.size} of ${count} voters say that the order is the newest one${rest}`;
      job.log(text, isConfirmed ? 'info' : 'warning');
      return;
    }
    const { name, answer } = no;
    const known = answer.number === 0 ? 'none' : `${answer.number}`;
    job.log(`'${name}' says that the newest order is ${known}: waiting for entry ${answer.ledgerIndex}`, 'warning');
    await reached(job, answer.ledgerIndex);
  }
}

async function askVoters(job: Job, record: SlotRecord): Promise<Round> {
  const { init, components } = job;
  const state = components.ledger.state();
  const voters = [...state.voterSet.voters, ...state.voterSet.votersOutgoing];
  const raftIds = new Map(voters.map(({ peer, raftId }) => [peer, raftId]));
  const nameOf = (peer: string): string => state.members[peer]?.name ?? peer;
  const yes = new Set<number>();
  let no: Round['no'];
  const asked = [...raftIds].map(async ([peer, raftId]) => {
    try {
      const answer =
        peer === init.self ? answerOf(questionOf(job, record), init.self, state) : await ask(job, record, peer);
      if (answer.isCurrent) yes.add(raftId);
      else if (answer.ledgerIndex > state.index || compareFloor(answer, record) > 0)
        no = { name: nameOf(peer), answer };
      else job.log(`'${nameOf(peer)}' does not know the order: its ledger is at entry ${answer.ledgerIndex}`, 'debug');
    } catch (error) {
      job.withdrawn.throwIfAborted();
      job.log(`'${nameOf(peer)}' was not asked: ${explain(error)}`, 'debug');
    }
  });
  await Promise.all(asked);
  return { yes, no, count: raftIds.size };
}

function questionOf({ init, components }: Job, { generation, number, hash }: SlotRecord): OrderQuestion {
  const nonce = components.randomBytes(orderNonceBytes);
  return { version: 1, nonce, host: init.host, slot: 'system', generation, number, hash };
}

async function ask(job: Job, record: SlotRecord, peer: string): Promise<Answer> {
  const { mesh, clock } = job.components;
  const late = new AbortController();
  const cancel = clock.after(answerMs, () => late.abort(new Error(`no answer within ${answerMs} ms`)));
  const signal = AbortSignal.any([job.withdrawn, late.signal]);
  const question = questionOf(job, record);
  let stream: MessageStream | undefined;
  try {
    stream = await mesh.open(peer, orderQuestionProtocol, { signal });
    await stream.send(encode(question));
    const message = await stream.receive({ signal });
    if (message === undefined) throw new ParleyError('stream-closed', 'closed without an answer', { retryable: true });
    const answer = decode(orderAnswerSchema, message, orderQuestionBytesMax, 'answer about an order');
    if (answer.kind === 'error') throw fromErrorRecord(answer.error);
    if (Buffer.compare(answer.nonce, question.nonce) !== 0) {
      throw new ParleyError('malformed', `the answer of '${peer}' is to another question`);
    }
    await stream.close();
    return answer;
  } catch (error) {
    stream?.abort(error as Error);
    throw error;
  } finally {
    cancel();
  }
}

/** Resolves when the own ledger has come so far, or has had its time. */
async function reached(job: Job, index: number): Promise<void> {
  const { ledger, clock } = job.components;
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
export function serveOrderQuestions({ mesh, ledger }: Pick<DeviceComponents, 'mesh' | 'ledger'>): void {
  const handler = async (stream: MessageStream) => {
    const message = await stream.receive();
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
