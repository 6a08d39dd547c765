import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matchesGlob, nearNames, parseSelector, selectHosts } from '../../node/control/selector-core.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { seededRandom } from './helpers.ts';

const hosts = [
  { name: 'web1', tags: ['home', 'web'] },
  { name: 'web2', tags: ['shop', 'web'] },
  { name: 'edge-a', tags: ['shop'] },
  { name: 'edge-b', tags: ['home', 'guinea-pig'] },
  { name: 'gpc0', tags: [] },
];

test('selectHosts() resolves hosts, globs, tags, and, or, not and parentheses', () => {
  const cases: [string, string[]][] = [
    ['web1', ['web1']],
    ['web1,web1, web2', ['web1', 'web2']],
    ['edge-*', ['edge-a', 'edge-b']],
    ['web?', ['web1', 'web2']],
    ['*', ['edge-a', 'edge-b', 'gpc0', 'web1', 'web2']],
    ['@all', ['edge-a', 'edge-b', 'gpc0', 'web1', 'web2']],
    ['@home', ['edge-b', 'web1']],
    ['@home & web*', ['web1']],
    ['!@home', ['edge-a', 'gpc0', 'web2']],
    ['!!web1', ['web1']],
    ['@web,@home & edge-*', ['edge-b', 'web1', 'web2']],
    ['(@web , @home) & !web1', ['edge-b', 'web2']],
    ['  web1\t', ['web1']],
  ];
  for (const [text, expected] of cases) assert.deepEqual(selectHosts(text, hosts), expected, text);
});

test('parseSelector() says where a selector cannot be read and what it expected', () => {
  const cases: [string, RegExp][] = [
    ['', /at 1: expected a host, '@tag', '!' or '\(', found its end/],
    ['web1,', /at 6: expected a host.*found its end/],
    ['web1 web2', /at 6: expected ',', '&' or the end, found 'w'/],
    ['(web1', /at 6: expected ',', '&' or '\)', found its end/],
    ['web1)', /at 5: expected ',', '&' or the end, found '\)'/],
    ['@', /at 2: expected the name of a tag, found its end/],
    ['web1 & & web2', /at 8: .*found '&'/],
    ['web1;rm', /at 5: .*found ';'/],
    [`${'('.repeat(40)}web1${')'.repeat(40)}`, /more than 32 levels/],
    ['!'.repeat(1_024), /more than 32 levels/],
  ];
  for (const [text, message] of cases) {
    assert.throws(
      () => parseSelector(text),
      (error: ParleyError) => error.code === 'bad-selector' && message.test(error.message),
      text,
    );
  }
});

test('selectHosts() names near hosts and tags when one is unknown', () => {
  assert.throws(() => selectHosts('web1,wbe2', hosts), {
    code: 'unknown-host',
    message: "selector 'web1,wbe2' at 6: no host is called 'wbe2'",
    hint: 'Did you mean web2?',
  });
  assert.throws(() => selectHosts('@hom', hosts), { code: 'unknown-tag', hint: 'Did you mean @home?' });
  assert.throws(() => selectHosts('!zzzzzz', hosts), {
    code: 'unknown-host',
    hint: 'Known are edge-a, edge-b, gpc0, web1, web2.',
  });
  assert.throws(() => selectHosts('db*', hosts), { message: "selector 'db*' at 1: no host fits 'db*'" });
});

test('selectHosts() says so when nothing is selected', () => {
  assert.throws(() => selectHosts('web1 & web2', hosts), { code: 'empty-selection' });
  assert.throws(() => selectHosts('@all', []), { code: 'empty-selection', message: /the fleet has none/ });
});

test('parseSelector() and selectHosts() throw nothing but ParleyErrors whatever they are given', (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  t.diagnostic(`seed ${seed}`);
  const random = seededRandom(seed);
  const pieces = [
    'web1',
    'web2',
    'edge-*',
    '@home',
    '@all',
    '@',
    '&',
    ',',
    '!',
    '(',
    ')',
    ' ',
    '*',
    '?',
    'é',
    '\u0000',
    ';',
    'zz',
  ];
  let selected = 0;
  for (let round = 0; round < 20_000; round += 1) {
    const text = Array.from(
      { length: Math.floor(random() * 12) },
      () => pieces[Math.floor(random() * pieces.length)],
    ).join('');
    try {
      const found = selectHosts(text, hosts);
      assert.ok(found.length > 0);
      selected += 1;
    } catch (error) {
      assert.ok(error instanceof ParleyError, `seed ${seed}: '${text}' threw ${String(error)}`);
    }
  }
  assert.ok(selected > 100, `only ${selected} random selectors were good`);
});

test('matchesGlob() stays fast for a pattern made to be slow', () => {
  const started = performance.now();
  assert.equal(matchesGlob(`${'a*'.repeat(500)}b`, 'a'.repeat(63)), false);
  assert.ok(performance.now() - started < 2_000);
});

test('nearNames() puts the nearest first and leaves far ones out', () => {
  assert.deepEqual(nearNames('wb1', ['web2', 'web1', 'database']), ['web1']);
  assert.deepEqual(nearNames('x', ['web1']), []);
});
