import assert from 'node:assert/strict';
import { test } from 'node:test';
import { check, encode } from '../../protocols/codec.ts';
import { type Command, controlProtocol } from '../../protocols/control.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import {
  diffViewSchema,
  historyViewSchema,
  inviteViewSchema,
  noticesViewSchema,
  selectionViewSchema,
  statusViewSchema,
  taskDetailSchema,
  tasksViewSchema,
  whoamiViewSchema,
} from '../../protocols/views.ts';
import { peerId, revision, seededRandom, storePath } from './helpers.ts';
import { commitFirst, deployAll, endOf, errorOf, flake, startRig, viewOf } from './rig.ts';

test('createControl() leads from a commit through deploy and approval to the switch, at whatever peer people are', async (t) => {
  const rig = await startRig(t);
  await commitFirst(rig);
  const deploying = await rig.ask('v3', deployAll, { speakAs: 'dan' });
  const waiting = endOf(deploying);
  assert.equal(waiting.waitsFor, 'approval by ann');
  assert.match(waiting.text, /^t2 deploy of [0-9a-f]{8} to web1, web2 waits for approval by ann$/);
  const selection = check(selectionViewSchema, viewOf(deploying, 'selection'));
  assert.deepEqual(selection.hosts, ['web1', 'web2']);
  assert.deepEqual(
    selection.leftOut.map(({ host, reason }) => `${host}: ${reason}`),
    [
      'gone9: no peer runs on it yet',
      'hub: the flake has no such host',
      'v2: the flake has no such host',
      'v3: the flake has no such host',
    ],
  );
  const card = check(taskDetailSchema, viewOf(deploying, 'task'));
  assert.deepEqual(card.plan?.mayApprove, ['ann']);
  assert.equal(card.plan?.hosts.length, 2);
  const approving = await rig.ask('v2', { name: 'approve', task: 't2', plan: null }, { speakAs: 'ann' });
  assert.deepEqual([endOf(approving).outcome, endOf(approving).waitsFor], ['succeeded', null]);
  const status = check(statusViewSchema, viewOf(await rig.ask('web1', { name: 'status' }), 'status'));
  assert.equal(status.current, true);
  assert.equal(status.controller, 'hub');
  const web1 = status.peers.find((peer) => peer.name === 'web1');
  assert.equal(web1?.running, storePath('system-web1-1.0'));
  assert.equal(web1?.commit, status.head);
  assert.deepEqual(status.hostsWithoutPeer, ['gone9']);
});

test('createControl() applies a command once however often it is given with the same id', async (t) => {
  const rig = await startRig(t);
  await commitFirst(rig);
  const first = endOf(await rig.ask('hub', deployAll, { speakAs: 'dan', id: 'the-same-id' }));
  const again = endOf(await rig.ask('v2', deployAll, { speakAs: 'dan', id: 'the-same-id' }));
  assert.equal(again.task, first.task);
  assert.equal(rig.fleet.entriesOf('deploy-requested').length, 1);
});

test('createControl() says who may do what is refused', async (t) => {
  const rig = await startRig(t);
  await commitFirst(rig);
  const viewer = errorOf(await rig.ask('v2', deployAll, { speakAs: 'vera' }));
  assert.equal(viewer.code, 'not-allowed');
  assert.equal(viewer.hint, 'Ask dan, or root on a voter.');
  const device = errorOf(await rig.ask('web1', deployAll));
  assert.match(device.message, /'web1' is no voter, so its socket reads and commands 'web1' alone/);
  const spoken = errorOf(await rig.ask('web1', deployAll, { speakAs: 'dan' }));
  assert.match(spoken.message, /peer 'web1' may not speak for 'dan'/);
  assert.equal(errorOf(await rig.ask('hub', { name: 'approve', task: 't9', plan: null })).code, 'task-unknown');
  assert.equal(errorOf(await rig.ask('hub', { name: 'approve', task: 't1', plan: null })).code, 'no-plan');
  assert.equal(rig.fleet.entriesOf('deploy-requested').length, 0);
});

test('createControl() rolls a host back to what it ran before, also by root of that host', async (t) => {
  const rig = await startRig(t);
  await commitFirst(rig);
  await rig.ask('hub', { ...deployAll, selector: 'web1' }, { follow: false });
  await rig.fleet.until('it waits', ({ tasks }) => tasks.t2?.stage === 'approval');
  endOf(await rig.ask('hub', { name: 'approve', task: 't2', plan: null }, { speakAs: 'ann' }));
  assert.equal(errorOf(await rig.ask('web1', { name: 'rollback', host: 'web1' })).code, 'nothing-to-roll-back');
  const second = { ...flake, version: '2.0' };
  rig.fleet.builders.flakes.set(revision(`commit of ${revision('/work2')}`), second);
  const deploy: Command = { ...deployAll, selector: 'web1', commitMessage: 'second' };
  const deploying = endOf(await rig.ask('hub', deploy, { speakAs: 'dan', workFolder: '/work2' }));
  assert.ok(deploying.task);
  endOf(await rig.ask('hub', { name: 'approve', task: deploying.task, plan: null }, { speakAs: 'ann' }));
  assert.equal(rig.fleet.state().devices.web1?.running, storePath('system-web1-2.0'));
  const back = endOf(await rig.ask('web1', { name: 'rollback', host: 'web1' }));
  assert.equal(back.outcome, 'succeeded', back.text);
  assert.equal(rig.fleet.state().devices.web1?.running, storePath('system-web1-1.0'));
  assert.equal(errorOf(await rig.ask('web1', { name: 'rollback', host: 'web2' })).code, 'not-a-voter');
  assert.match(errorOf(await rig.ask('hub', { name: 'rollback', host: 'wbe1' })).hint ?? '', /Did you mean web1/);
});

test('createControl() goes on following through the next controller when the first is killed', async (t) => {
  const rig = await startRig(t);
  await commitFirst(rig);
  let killed = false;
  const following = rig.ask('v3', deployAll, {
    speakAs: 'dan',
    onEvent(event) {
      if (killed || event.kind !== 'view' || event.view !== 'task') return;
      killed = true;
      rig.fleet.kill('hub');
      setTimeout(() => rig.fleet.lead('v2'), 30);
    },
  });
  assert.equal(endOf(await following).waitsFor, 'approval by ann');
  assert.ok(killed);
  assert.equal(rig.fleet.entriesOf('deploy-requested').length, 1);
});

test('createControl() answers reads from its own replica without a controller, and refuses changes in time', async (t) => {
  const rig = await startRig(t, { times: 20 });
  await commitFirst(rig);
  rig.fleet.lead(null);
  const status = check(statusViewSchema, viewOf(await rig.ask('v3', { name: 'status' }), 'status'));
  assert.deepEqual([status.current, status.controller], [false, null]);
  const refused = errorOf(await rig.ask('v3', deployAll, { speakAs: 'dan' }));
  assert.equal(refused.code, 'no-controller');
});

test('createControl() calls the outcome unknown when the controller dies over a change and no other is found', async (t) => {
  const rig = await startRig(t, { times: 20 });
  await commitFirst(rig);
  rig.fleet.faults = (what) => (what === 'propose update-requested' ? 'die-before' : 'go');
  const unknown = errorOf(await rig.ask('v3', { name: 'update', inputs: [] }, { speakAs: 'dan' }));
  assert.equal(unknown.code, 'outcome-unknown');
  assert.match(unknown.hint ?? '', /Ask again with the same id/);
});

test('createControl() stops following where only devices are left that are away', async (t) => {
  const rig = await startRig(t, { times: 100 });
  await commitFirst(rig);
  rig.fleet.setOnline('web2', false);
  endOf(await rig.ask('hub', deployAll, { speakAs: 'dan' }));
  const end = endOf(await rig.ask('hub', { name: 'approve', task: 't2', plan: null }, { speakAs: 'ann' }));
  assert.equal(end.waitsFor, 'the return of web2');
  assert.match(end.text, /web2: offline since .*; gets the current target when it returns/);
  const state: LedgerState = rig.fleet.state();
  assert.equal(state.tasks['t2/web1']?.outcome, 'succeeded');
  assert.equal(state.tasks.t2?.outcome, null);
  rig.fleet.setOnline('web2', true);
  await rig.fleet.until('the deploy ends', ({ tasks }) => tasks.t2?.outcome === 'succeeded');
});

test('createControl() shows every view in its documented form', async (t) => {
  const rig = await startRig(t);
  await commitFirst(rig);
  await rig.ask('hub', { name: 'build', selector: 'web*' }, { speakAs: 'dan' });
  const cases: [Command, string, Parameters<typeof check>[0]][] = [
    [{ name: 'status' }, 'status', statusViewSchema],
    [{ name: 'peers' }, 'peers', statusViewSchema],
    [{ name: 'tasks', all: true }, 'tasks', tasksViewSchema],
    [{ name: 'task', task: 't2' }, 'task', taskDetailSchema],
    [{ name: 'watch', task: 't2' }, 'task', taskDetailSchema],
    [{ name: 'history', limit: 5 }, 'history', historyViewSchema],
    [{ name: 'diff' }, 'diff', diffViewSchema],
    [{ name: 'whoami' }, 'whoami', whoamiViewSchema],
    [{ name: 'notices', after: 0, follow: false }, 'notices', noticesViewSchema],
    [
      { name: 'invite', peer: 'web9', site: 'home', roles: ['member'], expiresInMs: 60_000 },
      'invite',
      inviteViewSchema,
    ],
  ];
  for (const [command, view, schema] of cases) {
    const events = await rig.ask('v3', command);
    assert.equal(endOf(events).outcome, 'succeeded', command.name);
    assert.doesNotThrow(() => check(schema, viewOf(events, view), command.name));
  }
});

test('createControl() shows a work folder’s own changes without staging them, and stages them for a commit', async (t) => {
  const rig = await startRig(t);
  const diff = check(diffViewSchema, viewOf(await rig.ask('hub', { name: 'diff' }, { workFolder: '/work' }), 'diff'));
  assert.equal(diff.patch, 'a patch');
  assert.equal(rig.fleet.state().draft, null);
  assert.equal(
    errorOf(await rig.ask('hub', { name: 'commit', message: null }, { workFolder: '/clean' })).code,
    'nothing-to-commit',
  );
  const done = endOf(await rig.ask('v3', { name: 'commit', message: null }, { workFolder: '/work' }));
  assert.equal(done.revision, rig.fleet.state().head);
  assert.equal(rig.fleet.state().tasks.t1?.commit?.message, 'Change flake.nix');
});

test('createControl() rejects, aborts, retries, updates and discards', async (t) => {
  const rig = await startRig(t);
  await commitFirst(rig);
  endOf(await rig.ask('hub', deployAll, { speakAs: 'dan' }));
  const rejected = endOf(
    await rig.ask('hub', { name: 'reject', task: 't2', plan: null, reason: 'no' }, { speakAs: 'ann' }),
  );
  assert.deepEqual([rejected.outcome, rejected.text.includes('rejected by ann: no')], ['succeeded', true]);
  assert.equal(rig.fleet.state().tasks.t2?.outcome, 'refused');
  const retried = endOf(await rig.ask('hub', { name: 'retry', task: 't2' }, { speakAs: 'dan' }));
  assert.equal(retried.waitsFor, 'approval by ann');
  const aborted = endOf(await rig.ask('hub', { name: 'abort', task: 't2' }, { speakAs: 'dan' }));
  assert.equal(aborted.outcome, 'succeeded', aborted.text);
  assert.equal(rig.fleet.state().tasks.t2?.outcome, 'cancelled');
  const updated = endOf(await rig.ask('v2', { name: 'update', inputs: ['nixpkgs'] }, { speakAs: 'dan' }));
  assert.match(updated.text, /nixpkgs: 24.05 → 24.11/);
  assert.equal(
    endOf(await rig.ask('v2', { name: 'discard' }, { speakAs: 'dan' })).text,
    'the draft is discarded: 1 file',
  );
  assert.equal(errorOf(await rig.ask('v2', { name: 'discard' }, { speakAs: 'dan' })).code, 'nothing-to-discard');
});

test('createControl() tells what is wrong with a selector before anything is started', async (t) => {
  const rig = await startRig(t);
  assert.equal(errorOf(await rig.ask('hub', deployAll)).code, 'no-commit');
  await commitFirst(rig);
  const ask = (selector: string) => rig.ask('v3', { ...deployAll, selector }, { speakAs: 'dan' });
  assert.equal(errorOf(await ask('wbe1')).code, 'unknown-host');
  assert.equal(errorOf(await ask('@wbe')).hint, 'Did you mean @web?');
  assert.equal(errorOf(await ask('web1 &')).code, 'bad-selector');
  assert.equal(errorOf(await ask('web1 & web2')).code, 'empty-selection');
  const alone = errorOf(await ask('gone9'));
  assert.match(alone.message, /'gone9' names no host that can be deployed to: gone9: no peer runs on it yet/);
  assert.equal(rig.fleet.state().nextTaskNumber, 2);
});

test('createControl() reads logs from the peers that ran the parts', async (t) => {
  const rig = await startRig(t);
  await commitFirst(rig);
  rig.fleet.devices.outcomes.set('web1', 'degraded');
  endOf(await rig.ask('hub', deployAll, { speakAs: 'dan' }));
  endOf(await rig.ask('hub', { name: 'approve', task: 't2', plan: null }, { speakAs: 'ann' }));
  for (const follow of [false, true]) {
    const events = await rig.ask('v3', { name: 'logs', task: 't2', follow });
    const lines = events.flatMap((event) => (event.kind === 'log' ? [event.line.text] : []));
    assert.deepEqual(lines, ['a unit is slow', 'status 1: switch test']);
  }
  const card = check(taskDetailSchema, viewOf(await rig.ask('v3', { name: 'task', task: 't2/web1' }), 'task'));
  assert.deepEqual(card.messages, [{ level: 'warning', text: 'a unit is slow' }]);
  assert.deepEqual(card.processes, [{ peer: 'web1', command: 'switch test', exitCode: 1 }]);
  const whole = check(taskDetailSchema, viewOf(await rig.ask('v3', { name: 'task', task: 't2' }), 'task'));
  assert.deepEqual(whole.processes, card.processes);
});

test('createControl() says once of each peer that its log cannot be read', async (t) => {
  const rig = await startRig(t);
  await commitFirst(rig);
  endOf(await rig.ask('hub', deployAll, { speakAs: 'dan' }));
  rig.fleet.silentLogs.add(peerId('v2'));
  const events = await rig.ask('v3', { name: 'logs', task: 't2', follow: false });
  const lines = events.flatMap((event) => (event.kind === 'log' ? [event.line.text] : []));
  const notes = lines.filter((text) => text.includes('cannot be read'));
  assert.deepEqual(notes, ['what v2 logged cannot be read: it is gone']);
});

test('createControl() calls a peer offline only where a voter was asked for the log', async (t) => {
  const rig = await startRig(t, { times: 100 });
  await commitFirst(rig);
  endOf(await rig.ask('hub', deployAll, { speakAs: 'dan' }));
  rig.fleet.setOnline('v2', false);
  const notesAt = async (peer: string): Promise<string[]> => {
    const events = await rig.ask(peer, { name: 'logs', task: 't2', follow: false }, { speakAs: 'dan' });
    const lines = events.flatMap((event) => (event.kind === 'log' ? [event.line.text] : []));
    const notes = lines.filter((text) => text.includes('v2'));
    // A lost connection has a grace in which the peer still counts as there.
    return notes.length > 0 ? notes : notesAt(peer);
  };
  assert.deepEqual(await notesAt('v3'), ['what v2 logged cannot be read: it is offline']);
  const elsewhere = await notesAt('web1');
  assert.match(
    elsewhere.join(),
    /^what v2 logged cannot be read: this peer has no connection to it; .* hub or v2 or v3$/,
  );
});

test('createControl() says at the end of a deploy that there was nothing to commit', async (t) => {
  const rig = await startRig(t);
  await commitFirst(rig);
  const { text } = endOf(await rig.ask('hub', { ...deployAll, commitMessage: 'again' }, { speakAs: 'dan' }));
  const head = rig.fleet.state().head?.slice(0, 8);
  assert.ok(head && text.startsWith(`there was nothing to commit, this is the head ${head}: `), text);
  assert.equal(rig.fleet.entriesOf('commit-intended').length, 1);
});

test('createControl() follows notices until it is told to stop', async (t) => {
  const rig = await startRig(t);
  const stop = new AbortController();
  const seen: string[] = [];
  const following = rig.ask(
    'v3',
    { name: 'notices', after: 0, follow: true },
    {
      signal: stop.signal,
      onEvent(event) {
        if (event.kind !== 'view') return;
        for (const notice of check(noticesViewSchema, event.data).notices) seen.push(notice.text);
        if (seen.some((text) => text.includes('is in force'))) stop.abort();
      },
    },
  );
  await commitFirst(rig);
  await assert.rejects(following, { code: 'cancelled' });
  assert.ok(seen.some((text) => text.includes('committed')));
});

test('createControl() survives malformed, oversized and truncated forwarded requests', async (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  t.diagnostic(`seed ${seed}`);
  const random = seededRandom(seed);
  const rig = await startRig(t);
  const { mesh } = rig.fleet.componentsOf('web1');
  for (let round = 0; round < 100; round += 1) {
    const stream = await mesh.open(peerId('hub'), controlProtocol, { signal: t.signal });
    const bytes = Uint8Array.from({ length: Math.floor(random() * 200) }, () => Math.floor(random() * 256));
    await stream.send(bytes).catch(() => undefined);
    await stream.receive({ signal: AbortSignal.timeout(2_000) }).catch(() => undefined);
    stream.abort(new Error('done'));
  }
  await commitFirst(rig);
});

test('createControl() reports a controller whose answers are nonsense, and lives on', async (t) => {
  const rig = await startRig(t);
  const answers = [new Uint8Array([1, 2, 3]), encode({ kind: 'part', bytes: new Uint8Array([0xff]), last: true })];
  for (const answer of answers) {
    rig.fleet.componentsOf('hub').mesh.handle(controlProtocol, async (stream) => {
      await stream.receive();
      await stream.send(answer);
    });
    assert.equal(errorOf(await rig.ask('v3', { name: 'status' })).code, 'malformed');
  }
  endOf(await rig.ask('hub', { name: 'status' }));
});
