// Shows what each card says, that it keeps to its columns, and that colour only repeats words.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import type { CardContext } from '../../chatops/card-context.ts';
import { renderView } from '../../chatops/cards.ts';
import { colourPaint, plainPaint } from '../../chatops/paint.ts';
import { widthOf } from '../../chatops/words.ts';
import {
  hash,
  nowMs,
  peerView,
  planView,
  revision,
  statusView,
  storePath,
  taskDetail,
  taskView,
  votersView,
} from './fixtures.ts';

const context: CardContext = { paint: plainPaint, columns: 100, nowMs };
const text = (view: string, data: unknown) => renderView(view, data, context).join('\n');
const long = 'long '.repeat(80).trim();

const failing = taskView({
  id: 't3/shop-till',
  type: 'deploy-device',
  parent: 't3',
  host: 'shop-till',
  selector: null,
  status: 'failed',
  outcome: 'rolled-back',
  reason: { kind: 'error', text: 'activation script failed: exit status 2' },
  endedAtMs: nowMs,
});

const views: readonly [name: string, data: unknown][] = [
  ['status', statusView({ peers: [peerView({ name: 'n'.repeat(60), reason: long, outcome: 'degraded' })] })],
  ['peers', statusView()],
  ['tasks', { version: 1, tasks: [taskView({ selector: long }), failing] }],
  ['task', taskDetail({ children: [failing], plan: planView({ leftOut: [{ host: 'x', reason: long }] }) })],
  [
    'task',
    taskDetail({ messages: [{ level: 'error', text: `${long}\n${long}` }], plan: planView({ mayApprove: [] }) }),
  ],
  ['history', { version: 1, commits: [{ revision, author: 'alice', atMs: nowMs, message: long, hosts: ['a', 'b'] }] }],
  ['voters', votersView({ change: { text: long, waitsFor: long }, warnings: [long] })],
  [
    'notices',
    { version: 1, notices: [{ number: 4, atMs: nowMs, level: 'failure', task: 't3', text: long, deliveredTo: [] }] },
  ],
];

for (const [name, data] of views) {
  test(`renderView() keeps '${name}' within its columns and says the same with and without colour`, () => {
    const plain = renderView(name, data, context);
    for (const line of plain) assert.ok(widthOf(line) <= 100, `${widthOf(line)} columns: ${line}`);
    const coloured = renderView(name, data, { ...context, paint: colourPaint });
    assert.deepEqual(coloured.map(stripVTControlCharacters), plain);
  });
}

test('voters says who votes, what loss the fleet survives, and what a change waits for', () => {
  const shown = text('voters', votersView());
  assert.match(shown, /gate\* +votes +online +up to entry 12$/m);
  assert.match(shown, /hall +is to vote +offline 3 min +up to entry 4, behind$/m);
  assert.match(shown, /Every voter that is there is needed: decisions need 1 of 1 voter\./);
  assert.match(shown, /Change: hall is to vote \(waits for hall, which is away\)\./);
  assert.doesNotMatch(shown, /raft/);
  const safe = text('voters', votersView({ spare: 1, change: null, warnings: ['mind this'] }));
  assert.match(safe, /survives the loss of 1 more voter/);
  assert.match(safe, /^Warning: mind this$/m);
});

test('status says who controls, who is away, and who is not where he should be', () => {
  const away = peerView({
    name: 'shop-till',
    roles: ['member'],
    controller: false,
    online: false,
    lastSeenMs: nowMs - 3 * 60_000,
    desired: storePath('b', 'shop-till'),
    outcome: 'rolled-back',
    reason: 'unit caddy.service failed',
  });
  const card = text('status', statusView({ peers: [peerView(), away], hostsWithoutPeer: ['shop-cam'], draftFiles: 2 }));
  assert.match(card, /controller home-gate, term 3/);
  assert.match(card, /draft of 2 files/);
  assert.match(card, /home-gate .*voter,builder\* .*online .*aaaaaaaa .*1a2b3c4d .*reached .*succeeded/);
  assert.match(card, /shop-till .*member .*offline 3 min .*bbbbbbbb .*rolled-back/);
  assert.match(card, /Trouble\n {2}shop-till rolled-back: unit caddy.service failed/);
  const alarmed = statusView({ peers: [peerView({ alarmed: true, reason: 'order 7 exists twice' })] });
  assert.match(text('status', alarmed), /Trouble\n {2}home-gate accepts no orders: order 7 exists twice/);
  assert.match(card, /Hosts without a peer: shop-cam/);
});

test('status says that it is not current when the controller could not be asked', () => {
  assert.match(
    text('status', statusView({ current: false, controller: null })),
    /^Not current[\s\S]*controller none now/,
  );
});

test('task shows its tree, why a host failed, and Nix errors', () => {
  const card = text(
    'task',
    taskDetail({
      children: [failing],
      messages: [{ level: 'error', text: "error: attribute 'x' missing\n  at flake.nix:3" }],
    }),
  );
  assert.match(card, /t3 deploy @all: running/);
  assert.match(card, /t3\/shop-till +switch +shop-till +rolled-back +activation script failed: exit status 2/);
  assert.match(card, /error:\n {2}error: attribute 'x' missing\n {4}at flake.nix:3/);
});

test('plan names hosts, changes, who is left out, who may approve, and how', () => {
  const card = text('task', taskDetail({ plan: planView() }));
  assert.match(card, /Plan 0f0f0f0f by alice: 2 hosts, 1 closure/);
  assert.match(card, /home-gate +aaaaaaaa +bbbbbbbb +42 paths, 36\.0 MiB/);
  assert.match(card, /shop-till +unknown +cccccccc/);
  assert.match(card, /On home-gate:\n {4}changed caddy/);
  assert.match(card, /changed caddy 2\.7 → 2\.8/);
  assert.match(card, /new {5}fresh 1/);
  assert.match(card, /gone {4}old 9/);
  assert.match(card, /and 2 more changes/);
  assert.match(card, /shop-cam: evaluation failed/);
  assert.match(card, /Needs approval by bob or carol:\n {4}approve t3\n {4}reject t3 REASON/);
});

test('plan asks for nothing once it is approved, rejected, or needs no approval', () => {
  const approvals = [{ actor: 'bob', verdict: 'approve', atMs: nowMs, reason: null }];
  assert.match(
    text('task', taskDetail({ plan: planView({ approved: true, approvals }) })),
    /approved by bob at 2026-11-20/,
  );
  assert.doesNotMatch(text('task', taskDetail({ plan: planView({ approved: true }) })), /approve t3/);
  assert.match(text('task', taskDetail({ plan: planView({ rejected: true }) })), /Rejected/);
  assert.match(text('task', taskDetail({ plan: planView({ needsApproval: false }) })), /Needs no approval/);
});

test('diff lists files and shows the patch', () => {
  const view = {
    version: 1,
    base: revision,
    files: [{ path: 'flake.nix', change: 'modified' }],
    patch: '-a\n+b\u001b[2J\n',
  };
  assert.match(text('diff', view), /Draft of 1 file, against commit 1a2b3c4d\n {2}modified flake\.nix\n\n-a\n\+b$/);
  assert.match(text('diff', { version: 1, base: null, files: [], patch: '' }), /No draft/);
});

test('whoami, invite and selection say who, with which token, and which hosts', () => {
  const whoami = { version: 1, actor: 'root@gate', roles: ['admin'], peer: 'gate', controller: null };
  assert.equal(text('whoami', whoami), 'You are root@gate (admin) at gate; there is no controller now.');
  const token = `parley1:${'x'.repeat(300)}`;
  const invite = { version: 1, token, name: 'till', site: 'shop', roles: ['member'], expiresAtMs: nowMs };
  assert.ok(renderView('invite', invite, context).includes(token));
  const leftOut = [{ host: 'cam', reason: 'only watched' }];
  const selection = { version: 1, selector: '@shop', hosts: ['till', 'sign'], leftOut };
  assert.equal(text('selection', selection), '@shop is 2 hosts: till, sign\n  left out: cam, only watched');
});

test('a view without a card is drawn field by field', () => {
  assert.equal(
    text('novel', { version: 1, token: 'abc', roles: ['voter', 'builder'] }),
    'token: abc\nroles: voter, builder',
  );
});

test('a view that does not fit its name is refused', () => {
  assert.throws(() => renderView('status', { version: 1 }, context), { code: 'malformed' });
});

test('a notice says its level in words', () => {
  const notice = { number: 4, atMs: nowMs, level: 'approval', task: 't3', text: 'plan of t3 waits', deliveredTo: [] };
  assert.equal(text('notices', { version: 1, notices: [notice] }), 'Approval needed 4: plan of t3 waits');
  assert.equal(hash.length, 64);
});
