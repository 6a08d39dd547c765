// Tables that change in place within a batch: nobody sees it from outside, and a refused entry leaves no trace.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { beginBatch, beginEntry, dropRecords, putRecord, undoEntry } from '../../node/ledger/tables-core.ts';
import { createLedgerScript, peerIdOf } from '../helpers/ledger-script.ts';

test('undoEntry() takes back what one entry of a batch put and dropped, and nothing before it', () => {
  const script = createLedgerScript();
  script.join('web1');
  const start = script.state();
  const founder = start.members[peerIdOf('n1')] ?? assert.fail();
  beginBatch();
  const first = putRecord(start, 'members', 'first', { ...founder, name: 'first' });
  const expected = structuredClone(first.members);
  beginEntry();
  let second = putRecord(first, 'members', 'first', { ...founder, name: 'changed' });
  second = putRecord(second, 'members', 'second', founder);
  second = dropRecords(second, 'members', [peerIdOf('web1'), 'second', 'nobody']);
  assert.equal(second.members, first.members, 'within a batch the copy is changed in place');
  assert.notDeepEqual(second.members, expected);
  undoEntry();
  assert.deepEqual(first.members, expected);
  assert.equal(Object.keys(start.members).length, 2);
});

test('beginBatch() keeps the tables of states that were handed out as they are', () => {
  const { members, ...rest } = createLedgerScript().state();
  beginBatch();
  const founder = members[peerIdOf('n1')] ?? assert.fail();
  const first = putRecord({ members, ...rest }, 'members', 'first', founder);
  beginBatch();
  const second = putRecord(first, 'members', 'second', founder);
  assert.deepEqual(Object.keys(first.members).length, 2);
  assert.deepEqual(Object.keys(second.members).length, 3);
});
