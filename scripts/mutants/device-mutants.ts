// Owns the ways to break the device and its journal that their tests must notice: orders that are executed though they must
// not be, effects before the words that announce them, and two stories that are both believed.

import type { Mutant } from './mutant.ts';

const rules = 'test/device/device-core.test.ts';
const orders = 'test/device/device.test.ts';
const questions = 'test/device/order-question.test.ts';
const confirmations = 'test/device/confirmation.test.ts';
const crashes = 'test/device/crash.test.ts';
const reports = 'test/journal/reports.test.ts';

export const deviceMutants: readonly Mutant[] = [
  {
    name: 'no floor: takes an order older than the last one',
    file: 'node/device/device-core.ts',
    text: "if (age < 0) return 'ignore';",
    replacement: '',
    tests: [rules],
  },
  {
    name: 'keeps its floor by number alone, whatever the generation',
    file: 'node/device/device-core.ts',
    text: 'return order.generation - other.generation || order.number - other.number;',
    replacement: 'return order.number - other.number;',
    tests: [rules],
  },
  {
    name: 'acts on orders that no certificate covers',
    file: 'node/device/device-core.ts',
    text: ' || order.number > certifiedIndex) return',
    replacement: ') return',
    tests: [rules, questions],
  },
  {
    name: 'arms orders without asking voters',
    file: 'node/device/preparation.ts',
    text: 'await confirmCurrent(job, record);',
    replacement: '',
    tests: [questions],
  },
  {
    name: 'arms an order although a voter knows a newer one',
    file: 'node/device/order-question.ts',
    text: 'if (isConfirmed ? wiser === undefined || hasWaited : wiser === undefined && !isReached) {',
    replacement: 'if (isConfirmed || wiser !== null || !isReached) {',
    tests: [questions],
  },
  {
    name: 'arms an order that a majority does not confirm',
    file: 'node/device/order-question.ts',
    text: 'wiser === undefined && !isReached) {',
    replacement: 'wiser === undefined) {',
    tests: [questions],
  },
  {
    name: 'counts one vote of a voter that has two',
    file: 'protocols/certificate.ts',
    text: 'new Set(having.map(({ raftId }) => raftId)));',
    replacement: 'new Set(new Map(having.map(({ peer, raftId }) => [peer, raftId])).values()));',
    tests: [questions],
  },
  {
    name: 'goes on with orders that the ledger has no more',
    file: 'node/device/device-core.ts',
    text: 'if (generation === record.generation && index < record.number) return undefined;',
    replacement: 'if (index >= 0) return undefined;',
    tests: [rules, questions],
  },
  {
    name: 'goes on with an order although its peer is frozen',
    file: 'node/device/device-core.ts',
    text: "if (frozen !== undefined) return { code: 'order-refused'",
    replacement: "if (frozen === '') return { code: 'order-refused'",
    tests: [rules, questions],
  },
  {
    name: 'takes up orders although its peer is frozen',
    file: 'node/device/device.ts',
    text: 'if (isAlarmed || init.frozen !== undefined || order',
    replacement: 'if (isAlarmed || order',
    tests: [questions],
  },
  {
    name: 'believes answers to other questions about an order',
    file: 'node/device/order-question.ts',
    text: 'if (Buffer.compare(answer.nonce, question.nonce) !== 0) {',
    replacement: 'if (answer.nonce.byteLength === 0) {',
    tests: [questions],
  },
  {
    name: 'takes two orders under one number for the same',
    file: 'node/device/device-core.ts',
    text: "if (age === 0) return orderHash(order) === slot?.hash ? 'same' : 'conflict';",
    replacement: "if (age === 0) return 'same';",
    tests: [rules],
  },
  {
    name: 'takes orders for another peer of its name',
    file: 'node/device/device-core.ts',
    text: 'if (order === undefined || order.peer !== self || order',
    replacement: 'if (order === undefined || order',
    tests: [rules],
  },
  {
    name: 'takes cancelled orders',
    file: 'node/device/device-core.ts',
    text: "return order.cancelled ? 'decline' : 'accept';",
    replacement: "return 'accept';",
    tests: [rules],
  },
  {
    name: 'does not write its floor before it acts',
    file: 'node/device/slot.ts',
    text: "return write(acceptedSlot(order), (facts) => ({ kind: 'order-accepted', ...facts, body }));",
    replacement: `const accepted = (facts: Facts) => ({ kind: 'order-accepted', ...facts, body }) as const;
      return report(accepted, []).then(() => acceptedSlot(order));`,
    tests: [orders],
  },
  {
    name: 'does not write a state before the step',
    file: 'node/device/slot.ts',
    text: "return write({ ...record, ...changes, state }, (facts) => ({ kind: 'order-step', ...facts, body }));",
    replacement: `const stepped = (facts: Facts) => ({ kind: 'order-step', ...facts, body }) as const;
      return report(stepped, []).then(() => ({ ...record, ...changes, state }));`,
    tests: [crashes],
  },
  {
    name: 'accepts orders that do not follow from their plan',
    file: 'node/device/device-core.ts',
    text: 'if (row.closure !== slot.closure) return',
    replacement: 'if (row.closure === undefined) return',
    tests: [rules],
  },
  {
    name: 'accepts a manifest that the plan does not name',
    file: 'node/device/device-core.ts',
    text: 'if (row.manifest !== slot.manifest) return',
    replacement: 'if (row.manifest === undefined) return',
    tests: [rules],
  },
  {
    name: 'makes the new system permanent before it is confirmed',
    file: 'node/device/switching.ts',
    text: "job.show('healthy', 'asking other peers to confirm');",
    replacement: 'await makePermanent(job, record, saved);',
    tests: [confirmations],
  },
  {
    name: 'keeps a system that nobody confirms',
    file: 'node/device/switching.ts',
    text: "if ('failure' in confirmation) return await undo(job, record, goBack(confirmation.failure));",
    replacement:
      "if ('failure' in confirmation) return await finish(job, await job.slot.advance(record, 'confirmed'));",
    tests: [confirmations],
  },
  {
    name: 'believes unsigned confirmations',
    file: 'node/device/confirmation.ts',
    text: 'if (!verifySignature(confirmer, signed, answer.signature)) {',
    replacement: 'if (signed.byteLength === 0) {',
    tests: [confirmations],
  },
  {
    name: 'keeps a switch that was interrupted before it was confirmed',
    file: 'node/device/device-core.ts',
    text: "state === 'cleaned' ? 'finish' : 'undo';",
    replacement: "state === 'cleaned' ? 'finish' : 'finish';",
    tests: [crashes],
  },
  {
    name: 'undoes a switch that was interrupted after it was confirmed',
    file: 'node/device/device-core.ts',
    text: "return state === 'confirmed' || state === 'committed'",
    replacement: "return state === 'committed'",
    tests: [crashes],
  },
  {
    name: 'believes a switch program without looking at what runs',
    file: 'node/device/switching.ts',
    text: 'if (running === record.closure) return { reason: judgement.reason };',
    replacement: 'return { reason: judgement.reason };',
    tests: [orders],
  },
  {
    name: 'accepts a fork of a journal at a known number',
    file: 'node/journal/chain-core.ts',
    text: 'if (hash !== seen.hash) throw forked(name, seen.hash, hash);',
    replacement: '',
    tests: [reports],
  },
  {
    name: 'accepts a report that does not chain',
    file: 'node/journal/chain-core.ts',
    text: 'if (!isFirst && isNext && report.previous !== before.hash) throw forked(name, before.hash, report.previous);',
    replacement: '',
    tests: [reports],
  },
  {
    name: 'accepts reports without a valid signature',
    file: 'node/journal/chain-core.ts',
    text: 'if (!context.verifySignature(report.peer, reportSigningBytes(report), report.signature)) {',
    replacement: 'if (report.signature.byteLength === 0) {',
    tests: [reports],
  },
  {
    name: 'accepts reports of another writer',
    file: 'node/journal/chain-core.ts',
    text: 'if (report.peer !== context.peer) throw malformed',
    replacement: "if (report.peer === '') throw malformed",
    tests: [reports],
  },
  {
    name: 'goes on with a journal that was restored from a backup',
    file: 'node/journal/chain-core.ts',
    text: 'if (stored?.isWhole && !isBehind(stored.head, marker))',
    replacement: 'if (stored?.isWhole)',
    tests: [reports],
  },
  {
    name: 'waits for a question about an order for ever',
    file: 'node/device/order-question.ts',
    text: 'limitMs: answerMs, late }, (signal) => stream.receive({ signal })',
    replacement: 'limitMs: answerMs, late }, () => stream.receive()',
    tests: ['test/device/order-question.test.ts'],
  },
  {
    name: 'waits for a request to confirm a switch for ever',
    file: 'node/device/confirmation.ts',
    text: 'limitMs: tryMs, late }, (signal) => stream.receive({ signal })',
    replacement: 'limitMs: tryMs, late }, () => stream.receive()',
    tests: ['test/device/confirmation.test.ts'],
  },
];
