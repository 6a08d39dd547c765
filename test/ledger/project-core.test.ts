// The rules about drafts, commits and updates of inputs.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commit, createLedgerScript, deployToPlan, hash, revision, stage } from '../helpers/ledger-script.ts';

const draftOf = (name: string, previous: string | null, base: string | null) => ({
  base,
  previous,
  tree: revision(`tree ${name}`),
  pack: hash(`pack ${name}`),
  files: [],
  fileCount: 1,
});

test('applyEntry() stages a draft only over the draft that its author saw', () => {
  const script = createLedgerScript();
  stage(script, 'one', { actor: 'alice' });
  const first = script.state().draft?.hash ?? '';
  const text = script.refuse('draft-moved', 'draft-staged', draftOf('two', null, null), { actor: 'bob' });
  assert.match(text, /alice staged another one/);
  script.accept('draft-staged', draftOf('two', first, null), { actor: 'bob' });
  assert.equal(script.state().draft?.actor, 'bob');
  script.refuse('draft-moved', 'commit-intended', { draft: first, message: 'm' });
});

test('applyEntry() takes the same draft twice and refuses one on another head', () => {
  const script = createLedgerScript();
  stage(script, 'one');
  const { draft } = script.state();
  script.accept('draft-staged', { ...draftOf('one', null, null), files: [{ path: 'flake.nix', change: 'modified' }] });
  assert.equal(script.state().draft, draft);
  script.refuse('head-moved', 'draft-staged', draftOf('two', draft?.hash ?? null, revision('elsewhere')));
});

test('applyEntry() discards a draft, and refuses when there is none', () => {
  const script = createLedgerScript();
  stage(script, 'one');
  script.accept('draft-discarded', {});
  assert.equal(script.state().draft, null);
  script.refuse('nothing-to-discard', 'draft-discarded', {});
});

test('applyEntry() commits the draft: intent, then head, and the draft is gone', () => {
  const script = createLedgerScript();
  stage(script, 'one', { actor: 'alice' });
  const draft = script.state().draft?.hash ?? '';
  const task = script.accept(
    'commit-intended',
    { draft, message: 'first' },
    { actor: 'alice', commandId: 'command-7' },
  );
  assert.equal(task, 't1');
  const { commit: intent, commandId } = script.state().tasks[task] ?? assert.fail();
  assert.deepEqual(intent, {
    parent: null,
    tree: revision('tree one'),
    pack: hash('pack one'),
    message: 'first',
    author: 'alice',
    timeMs: script.state().timeMs,
  });
  assert.equal(commandId, 'command-7');
  script.accept('commit-recorded', { task, revision: revision('one') }, { actor: 'controller' });
  assert.equal(script.state().head, revision('one'));
  assert.equal(script.state().draft, null);
  assert.equal(script.state().tasks[task]?.outcome, 'succeeded');
  assert.match(script.state().notices.at(-1)?.text ?? '', /^alice committed [0-9a-f]{7}: first$/);
  script.refuse('task-ended', 'commit-recorded', { task, revision: revision('other') });
});

test('applyEntry() runs one commit at a time and leaves the draft alone meanwhile', () => {
  const script = createLedgerScript();
  stage(script, 'one');
  const draft = script.state().draft?.hash ?? '';
  const task = script.accept('commit-intended', { draft, message: 'first' });
  script.refuse('commit-running', 'commit-intended', { draft, message: 'again' });
  script.refuse('commit-running', 'draft-staged', draftOf('two', draft, null));
  script.refuse('commit-running', 'draft-discarded', {});
  script.refuse('not-abortable', 'task-aborted', { task });
  script.accept('task-finished', { task, attempt: 1, outcome: 'failed', reason: 'git broke' });
  assert.equal(script.state().draft?.hash, draft);
  script.refuse('not-retriable', 'task-retried', { task });
  const again = script.accept('commit-intended', { draft, message: 'again' });
  script.accept('commit-recorded', { task: again, revision: revision('one') }, { actor: 'controller' });
  assert.match(
    script.refuse('nothing-to-retry', 'task-retried', { task: again }),
    /nothing to retry in 't2': it succeeded/,
  );
});

test('applyEntry() refuses to commit nothing', () => {
  const script = createLedgerScript();
  script.refuse('nothing-to-commit', 'commit-intended', { draft: hash('none'), message: 'm' });
  script.accept('draft-staged', { ...draftOf('empty', null, null), fileCount: 0 });
  script.refuse('nothing-to-commit', 'commit-intended', { draft: script.state().draft?.hash ?? '', message: 'm' });
});

test('applyEntry() updates inputs one at a time, once something is committed', () => {
  const script = createLedgerScript();
  script.refuse('no-commit', 'update-requested', { inputs: [] });
  commit(script, 'one');
  const task = script.accept('update-requested', { inputs: ['nixpkgs'] });
  script.refuse('update-inputs-running', 'update-requested', { inputs: [] });
  script.accept('task-aborted', { task }, { actor: 'alice' });
  assert.equal(script.state().tasks[task]?.outcome, 'cancelled');
  script.accept('task-retried', { task });
  assert.equal(script.state().tasks[task]?.attempt, 2);
  script.accept('task-finished', { task, attempt: 2, outcome: 'succeeded', reason: null });
  script.refuse('task-ended', 'task-finished', { task, attempt: 2, outcome: 'failed', reason: null });
});

test('applyEntry() supersedes a deploy that waits for approval when a commit comes', () => {
  const script = createLedgerScript();
  script.join('web1');
  commit(script, 'one');
  const { task, plan } = deployToPlan(script, ['web1']);
  assert.equal(script.state().tasks[task]?.stage, 'approval');
  commit(script, 'two');
  assert.equal(script.state().tasks[task]?.outcome, 'superseded');
  script.refuse('plan-stale', 'approval-given', { task, plan, verdict: 'approve' });
});
