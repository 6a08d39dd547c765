// Shows that every command is read as the table says, that mistakes get a hint, and that no line can break the parser.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commandNames, findSpec } from '../../chatops/commands.ts';
import { parseLine, splitWords } from '../../chatops/grammar.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { seededRandom } from '../helpers/random.ts';

const commandOf = (line: string) => {
  const parsed = parseLine(line);
  assert.equal(parsed.kind, 'command');
  return parsed.kind === 'command' ? parsed.command : undefined;
};

const refused = (line: string, message: RegExp, hint: RegExp) =>
  assert.throws(() => parseLine(line), { code: 'usage', message, hint });

test('splitWords() reads quotes and backslashes as a shell does', () => {
  assert.deepEqual(splitWords(`  a  "b c"d 'e\\f' g\\ h "i\\"j\\k" ""`), ['a', 'b cd', 'e\\f', 'g h', 'i"j\\k', '']);
  assert.deepEqual(splitWords('   '), []);
  assert.throws(() => splitWords('commit "open'), { code: 'usage', message: /quote is not closed/ });
});

test('parseLine() reads every example of the table', () => {
  for (const name of commandNames) {
    for (const example of findSpec(name)?.examples ?? []) {
      const command = commandOf(example.replace(/^as \w+ /, ''));
      assert.equal(command?.name, name.replace(' ', '-'), example);
    }
  }
});

test('parseLine() gives the request that a line stands for', () => {
  assert.deepEqual(commandOf('commit -m "open a port"'), { name: 'commit', message: 'open a port' });
  assert.deepEqual(commandOf('commit open  a port'), { name: 'commit', message: 'open a port' });
  assert.deepEqual(commandOf('commit'), { name: 'commit', message: null });
  assert.deepEqual(commandOf('deploy "@home & !gate" --keep-going --commit=now'), {
    name: 'deploy',
    selector: '@home & !gate',
    keepGoing: true,
    commitMessage: 'now',
  });
  assert.deepEqual(commandOf('reject t3 not on a Friday'), {
    name: 'reject',
    task: 't3',
    plan: null,
    reason: 'not on a Friday',
  });
  assert.deepEqual(commandOf('invite till --roles voter,builder --site shop --expires 90s'), {
    name: 'invite',
    peer: 'till',
    site: 'shop',
    roles: ['member', 'voter', 'builder'],
    expiresInMs: 90_000,
  });
  assert.deepEqual(commandOf('voters'), { name: 'voters' });
  assert.deepEqual(commandOf('voters add web1'), { name: 'voters-add', host: 'web1' });
  assert.deepEqual(commandOf('voters replace gate hall --no-wait'), {
    name: 'voters-replace',
    host: 'gate',
    by: 'hall',
  });
  assert.deepEqual(commandOf('peers remove web1'), { name: 'peers-remove', host: 'web1' });
  assert.deepEqual(commandOf('history'), { name: 'history', limit: 20 });
  assert.deepEqual(commandOf('logs t3/web1 -f'), { name: 'logs', task: 't3/web1', follow: true });
});

test('parseLine() follows tasks unless --no-wait is given', () => {
  const followed = (line: string) => {
    const parsed = parseLine(line);
    return parsed.kind === 'command' && parsed.follow;
  };
  assert.equal(followed('deploy @all'), true);
  assert.equal(followed('approve t1'), true);
  assert.equal(followed('approve t1 --no-wait'), false);
  assert.equal(followed('status'), false);
});

test('parseLine() says what is wrong and how it is written', () => {
  refused('deplyo @all', /no such command: 'deplyo'/, /Did you mean deploy\?/);
  refused('frobnicate', /no such command/, /'help' lists/);
  refused('deploy', /needs SELECTOR/, /Usage: deploy SELECTOR \[--keep-going\]/);
  refused('deploy web1, web2', /does not take 'web2': quote/, /Usage: deploy/);
  refused('deploy @all --keepgoing', /no option '--keepgoing'/, /--keep-going/);
  refused(
    'voters --state /srv/gate',
    /^'voters' has no option '--state'$/,
    /goes before the command.*: parley --state DIR voters$/,
  );
  refused('voters add web1 --as=alice', /no option '--as'/, /: parley --as NAME voters add$/);
  refused('deploy @all --commit', /'--commit' needs MESSAGE/, /Usage/);
  refused('deploy @all --keep-going=yes', /takes no value/, /Usage/);
  refused(
    `deploy ${'x'.repeat(2_000)}`,
    /^'deploy' cannot take this selector: it is longer than 1024 characters$/,
    /Usage/,
  );
  refused(
    `deploy @all --commit ${'x'.repeat(3_000)}`,
    /this commit message: it is longer than 2000 characters$/,
    /Usage/,
  );
  refused('voters ad web1', /no such command: 'voters ad'/, /Did you mean voters add\?/);
  refused('peers web1', /no such command: 'peers web1'/, /There are peers, peers remove\./);
  refused('voters replace gate', /'voters replace' needs NEW/, /Usage: voters replace OLD NEW/);
  refused('history 0', /^'history' cannot take this count: it must be at least 1$/, /Usage: history/);
  refused('task 3', /expected a task id/, /Usage: task TASK/);
  refused('invite till', /needs --site/, /Usage: invite/);
  refused('invite till --site shop --roles king', /roles/, /Usage: invite/);
  assert.throws(() => parseLine('invite till --site shop --expires soon'), { code: 'usage', message: /such as 30m/ });
  assert.throws(() => parseLine(`commit ${'x'.repeat(20_000)}`), { code: 'usage', message: /the limit is/ });
});

test('parseLine() gives help for help, help TOPIC and --help', () => {
  assert.deepEqual(parseLine('help'), { kind: 'help', topic: null });
  assert.deepEqual(parseLine('help deploy'), { kind: 'help', topic: 'deploy' });
  assert.deepEqual(parseLine('deploy --help'), { kind: 'help', topic: 'deploy' });
  assert.deepEqual(parseLine('help voters add'), { kind: 'help', topic: 'voters add' });
  assert.deepEqual(parseLine('voters add --help'), { kind: 'help', topic: 'voters add' });
});

test('parseLine() refuses or reads any line without another error', (t) => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const pick = <T>(items: readonly T[]): T | undefined => items[Math.floor(random() * items.length)];
  const pieces = [...commandNames, ...' \t\'"\\#-!&|()@,=$`\u0000é漢😀', '--', '--json', '-m', 't1', '--site', 'web1'];
  for (let round = 0; round < 5_000; round += 1) {
    const line = Array.from({ length: Math.floor(random() * 12) }, () => pick(pieces)).join(pick(['', ' ']));
    try {
      parseLine(line);
    } catch (error) {
      assert.ok(error instanceof ParleyError && error.code === 'usage', `seed ${seed}, line ${JSON.stringify(line)}`);
    }
  }
});
