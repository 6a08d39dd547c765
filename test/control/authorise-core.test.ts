import assert from 'node:assert/strict';
import { test } from 'node:test';
import { authorise, checkSpeaker, isOnlyFollowed, localActor } from '../../node/control/authorise-core.ts';
import type { Command, CommandName } from '../../protocols/control.ts';
import type { Task } from '../../protocols/ledger-state.ts';
import { buildState, buildTask, memberOf, peerId } from './helpers.ts';

const commands: { readonly [N in CommandName]: Extract<Command, { name: N }> } = {
  status: { name: 'status' },
  peers: { name: 'peers' },
  whoami: { name: 'whoami' },
  diff: { name: 'diff' },
  discard: { name: 'discard' },
  commit: { name: 'commit', message: null },
  update: { name: 'update', inputs: [] },
  build: { name: 'build', selector: '@all' },
  deploy: { name: 'deploy', selector: '@all', keepGoing: false, commitMessage: null },
  approve: { name: 'approve', task: 't1', plan: null },
  reject: { name: 'reject', task: 't1', plan: null, reason: null },
  abort: { name: 'abort', task: 't1' },
  retry: { name: 'retry', task: 't1' },
  rollback: { name: 'rollback', host: 'web1' },
  tasks: { name: 'tasks', all: false },
  task: { name: 'task', task: 't1' },
  watch: { name: 'watch', task: 't1' },
  logs: { name: 'logs', task: 't1', follow: false },
  history: { name: 'history', limit: 10 },
  notices: { name: 'notices', after: 0, follow: false },
  invite: { name: 'invite', peer: 'web9', site: 'home', roles: ['member'], expiresInMs: 60_000 },
  voters: { name: 'voters' },
  'voters-add': { name: 'voters-add', host: 'web1' },
  'voters-remove': { name: 'voters-remove', host: 'web1' },
  'voters-replace': { name: 'voters-replace', host: 'hub', by: 'web1' },
  'peers-remove': { name: 'peers-remove', host: 'web1' },
};
const reads: CommandName[] = [
  'status',
  'peers',
  'whoami',
  'diff',
  'tasks',
  'task',
  'watch',
  'logs',
  'history',
  'notices',
  'voters',
];

function factsWith(tasks: Task[] = []) {
  return buildState({
    members: [memberOf('hub', ['member', 'voter', 'builder']), memberOf('web1', ['member'])],
    operators: {
      vera: ['viewer'],
      dan: ['deployer'],
      ann: ['approver'],
      amy: ['admin'],
      bob: ['deployer', 'approver'],
    },
    tasks,
  });
}

function allowed(actor: string, tasks: Task[] = []): CommandName[] {
  const facts = factsWith(tasks);
  return Object.values(commands)
    .filter((command) => {
      try {
        authorise(actor, command, facts);
        return true;
      } catch {
        return false;
      }
    })
    .map((command) => command.name);
}

test('authorise() lets each role give its commands and no others', () => {
  const all = Object.keys(commands) as CommandName[];
  const deployer: CommandName[] = ['discard', 'commit', 'update', 'build', 'deploy', 'abort', 'retry', 'rollback'];
  assert.deepEqual(allowed('vera').sort(), [...reads].sort());
  assert.deepEqual(allowed('dan').sort(), [...reads, ...deployer].sort());
  assert.deepEqual(allowed('ann').sort(), [...reads, 'approve', 'reject', 'rollback'].sort());
  assert.deepEqual(allowed('amy').sort(), all.sort());
  assert.deepEqual(allowed('nobody').sort(), [...reads].sort());
  assert.deepEqual(allowed('root@hub').sort(), all.sort());
});

test('authorise() lets root of another peer read and command that device alone', () => {
  assert.deepEqual(allowed('root@web1').sort(), [...reads, 'rollback'].sort());
  assert.throws(() => authorise('root@web1', { name: 'rollback', host: 'hub' }, factsWith()), {
    code: 'not-a-voter',
    hint: 'Use the local socket of a voter (hub).',
  });
  const own = buildTask({ id: 't1', type: 'rollback', hosts: ['web1'] });
  assert.deepEqual(allowed('root@web1', [own]).sort(), [...reads, 'rollback', 'abort', 'retry'].sort());
  const others = buildTask({ id: 't1', type: 'deploy', hosts: ['web1'] });
  assert.deepEqual(allowed('root@web1', [others]).sort(), [...reads, 'rollback'].sort());
  assert.deepEqual(allowed('root@stranger').sort(), [...reads].sort());
});

test('authorise() names who could', () => {
  assert.throws(() => authorise('dan', commands.approve, factsWith()), {
    code: 'not-allowed',
    message: "'dan' may not approve: that needs the role approver, and 'dan' is viewer and deployer only",
    hint: 'Ask amy, ann, bob, or root on a voter.',
  });
});

test('isOnlyFollowed() knows a change of voters that the ledger has taken, and no other command', () => {
  const result = { index: 5, atMs: 0, task: null, error: null };
  const state = { ...factsWith(), commands: { taken: { ...result, actor: 'root@hub', kind: 'voter-removed' } } };
  const [command, actor] = [{ name: 'voters-remove', host: 'hub' } as const, 'root@hub'];
  assert.equal(isOnlyFollowed({ id: 'taken', actor, command }, state), true);
  assert.equal(isOnlyFollowed({ id: 'another', actor, command }, state), false);
  assert.equal(isOnlyFollowed({ id: 'taken', actor, command: commands.approve }, state), false);
  const taken = { code: 'id-taken' };
  assert.throws(() => isOnlyFollowed({ id: 'taken', actor: 'vera', command }, state), taken);
  assert.throws(
    () => isOnlyFollowed({ id: 'taken', actor, command: { ...command, name: 'peers-remove' } }, state),
    taken,
  );
});

test('localActor() speaks as an operator only where the peer allows it', () => {
  const facts = factsWith();
  assert.equal(localActor({}, { name: 'hub', speakAs: false }, facts), 'root@hub');
  assert.equal(localActor({ speakAs: 'ann' }, { name: 'hub', speakAs: true }, facts), 'ann');
  assert.throws(() => localActor({ speakAs: 'ann' }, { name: 'hub', speakAs: false }, facts), {
    code: 'speaking-as-refused',
  });
  assert.throws(() => localActor({ speakAs: 'eve' }, { name: 'hub', speakAs: true }, facts), {
    code: 'unknown-operator',
    hint: 'Ask amy, ann, bob, dan, vera, or root on a voter.',
  });
  assert.throws(() => localActor({ speakAs: 'constructor' }, { name: 'hub', speakAs: true }, facts), {
    code: 'unknown-operator',
  });
});

test('checkSpeaker() believes voters about operators and every peer about its own root only', () => {
  const facts = factsWith();
  checkSpeaker(peerId('hub'), 'ann', facts);
  checkSpeaker(peerId('hub'), 'root@hub', facts);
  checkSpeaker(peerId('web1'), 'root@web1', facts);
  for (const [sender, actor] of [
    ['web1', 'ann'],
    ['web1', 'root@hub'],
    ['hub', 'root@web1'],
    ['stranger', 'root@stranger'],
  ] as const) {
    assert.throws(() => checkSpeaker(peerId(sender), actor, facts), { code: 'not-a-voter' }, `${sender} for ${actor}`);
  }
});
