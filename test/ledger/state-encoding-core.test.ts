// A whole state in steps: the bytes and the state that the codec gives at once, and nothing taken that the codec refuses.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeStateInSteps } from '../../node/ledger/state-decoding-core.ts';
import { encodeState } from '../../node/ledger/state-encoding-core.ts';
import { decode, encode } from '../../protocols/codec.ts';
import { snapshotBytesMax } from '../../protocols/consensus-record.ts';
import { type LedgerState, ledgerStateSchema } from '../../protocols/ledger-state.ts';
import { createLedgerScript } from '../helpers/ledger-script.ts';
import { seededRandom } from '../helpers/random.ts';
import { allSteps } from '../helpers/steps.ts';

function smallState(): LedgerState {
  const script = createLedgerScript();
  for (const name of ['web1', 'web2']) script.join(name, ['member']);
  return script.state();
}

function largeState(): LedgerState {
  const result = { index: 7, atMs: 1, task: null, error: null };
  const commands = Object.fromEntries(Array.from({ length: 5_000 }, (_, at) => [`command-${at}`, result]));
  return { ...smallState(), commands };
}

const decodeAtOnce = (bytes: Uint8Array): LedgerState =>
  decode<LedgerState>(ledgerStateSchema, bytes, snapshotBytesMax, 'state');
const decodeInSteps = (bytes: Uint8Array): LedgerState => allSteps(decodeStateInSteps(bytes)).result;

function outcomeOf(decoder: (bytes: Uint8Array) => LedgerState, bytes: Uint8Array): LedgerState | 'refused' {
  try {
    return decoder(bytes);
  } catch (error) {
    assert.equal((error as { code?: unknown }).code, 'malformed', String(error));
    return 'refused';
  }
}

test('encodeState() and decodeStateInSteps() let others have the event loop in between', () => {
  const state = largeState();
  const encoded = allSteps(encodeState(state));
  assert.deepEqual(encoded.result, encode(state));
  const decoded = allSteps(decodeStateInSteps(encoded.result));
  assert.deepEqual(decoded.result, state);
  for (const { count } of [encoded, decoded]) assert.ok(count >= 5, `${count} steps`);
});

test('decodeStateInSteps() takes nothing that the codec refuses, and gives what it gives', () => {
  const seed = Number(process.env.SEED ?? Date.now());
  const random = seededRandom(seed);
  const bytes = encode(smallState());
  for (let turn = 0; turn < 2_000; turn += 1) {
    const bent = Uint8Array.from(bytes);
    const at = Math.floor(random() * bent.byteLength);
    bent[at] = random() < 0.5 ? (bent[at] ?? 0) ^ (1 << Math.floor(random() * 8)) : Math.floor(random() * 256);
    const given = random() < 0.1 ? bent.subarray(0, at) : bent;
    const taken = outcomeOf(decodeInSteps, given);
    if (taken !== 'refused') assert.deepEqual(taken, outcomeOf(decodeAtOnce, given), `SEED=${seed}, turn ${turn}`);
  }
});

test('decodeStateInSteps() refuses fields that are missing, bytes that follow, and keys out of order', () => {
  const { draft, ...rest } = smallState();
  assert.equal(draft, null);
  const whole = encode(smallState());
  const heads = [0xbb, 0xa3, 0x5f, 0xff].map((word) => Uint8Array.of(word, ...whole.subarray(1)));
  const twice = encode({ members: {}, invites: {} });
  const swapped = Buffer.from(twice).toString('latin1').replace('members', 'invites');
  for (const bytes of [encode(rest), Uint8Array.of(...whole, 0), Buffer.from(swapped, 'latin1'), ...heads]) {
    assert.throws(() => decodeInSteps(bytes), { code: 'malformed' });
  }
  assert.deepEqual(decodeInSteps(whole), smallState());
  assert.throws(() => decodeInSteps(new Uint8Array(snapshotBytesMax + 1)), { code: 'too-large' });
});

test('decodeStateInSteps() refuses lengths that are written longer than needed', () => {
  const whole = encode({ ...smallState(), commands: {} });
  const at = Buffer.from(whole).indexOf('commands') + 'commands'.length;
  assert.equal(whole[at], 0xa0);
  const longer = Uint8Array.of(...whole.subarray(0, at), 0xb8, 0, ...whole.subarray(at + 1));
  assert.throws(() => decodeInSteps(longer), { code: 'malformed' });
  assert.throws(() => decodeAtOnce(longer), { code: 'malformed' });
});
