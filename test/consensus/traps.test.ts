// Traps that random schedules hardly ever find, each led into by hand: changes of voters that overlap, and writes that end
// after what they wrote was replaced twice.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { appendThread, makeMessage } from '../../node/consensus/core/message.ts';
import { type ConfigurationStep, encodeConfigurationChange } from '../../protocols/consensus-record.ts';
import { accepted, describe, entriesOf, PaperNode } from './paper-node.ts';

const changeOf = (...steps: ConfigurationStep[]): Uint8Array =>
  encodeConfigurationChange({ transition: 'automatic', steps, context: new Uint8Array() });
const removal = (raftId: number) => ({
  ...{ index: 1, term: 1, type: 'configuration' as const },
  data: changeOf({ kind: 'remove', raftId }),
});

test('a change of voters that is proposed before the last one is applied becomes an empty entry', () => {
  const node = new PaperNode({ size: 5 }).leadAndCommit();
  const propose = (raftId: number): void => {
    node.take('propose', { from: 1, entries: [removal(raftId)] });
    for (const message of node.sent()) node.hear(accepted(message));
    node.write();
  };
  propose(5);
  propose(4);
  const { log } = node.raft;
  assert.equal(log.committed, 3, 'both are committed');
  const kinds = log.slice(2, 4, Number.POSITIVE_INFINITY)?.map(({ type, data }) => [type, data.byteLength > 0]);
  assert.deepEqual(kinds, [
    ['configuration', true],
    ['normal', false],
  ]);
});

test('a node with a committed change of voters still to apply does not stand for election', () => {
  const node = new PaperNode({ log: [removal(3)], term: 1, commit: 1 }).campaign();
  assert.deepEqual([node.raft.role, node.raft.term], ['follower', 1]);
  node.raft.log.appliedTo(1, 0);
  node.campaign();
  assert.deepEqual([node.raft.role, node.raft.term], ['candidate', 2]);
});

test('a write of an older term proves nothing about entries that were replaced and came again', () => {
  const node = new PaperNode();
  const append = (term: number, entryTerm: number): void => {
    node.take('append', { from: 2, term, entries: entriesOf(1, [entryTerm]) });
    node.raft.log.acceptUnstable();
  };
  const written = (term: number, logTerm: number): void => {
    node.take('storage-append-response', { from: appendThread, term, index: 1, logTerm });
  };
  append(1, 1);
  append(2, 2);
  append(3, 1);
  assert.deepEqual(node.wholeLog(), ['1/1']);
  // The disk has done the first of three writes; the second will replace it.
  written(1, 1);
  assert.ok(node.raft.log.hasUnstableEntries());
  written(3, 1);
  assert.ok(!node.raft.log.hasUnstableEntries());
});

test('a leader that was deposed and elected anew does not count what an older write acknowledged', () => {
  const node = new PaperNode().lead();
  node.raft.log.acceptUnstable();
  const [own] = node.raft.messagesAfterAppend.filter(({ to }) => to === 1);
  assert.ok(own);
  node.follow(2, 2);
  node.lead();
  node.hear(own);
  node.hear(makeMessage('append-response', 1, { from: 2, term: node.raft.term, index: 1 }));
  assert.equal(node.raft.log.committed, 0);
  assert.deepEqual(describe(node.raft.log.nextUnstableEntries()), ['2/3']);
});
