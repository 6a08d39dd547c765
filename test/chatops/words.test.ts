// Shows how small things are written, and that text from elsewhere cannot reach the terminal as anything but text.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearestNames } from '../../chatops/nearest.ts';
import { choosePaint, colourPaint, plainPaint, renderTable } from '../../chatops/paint.ts';
import {
  bytesText,
  clean,
  cleanLines,
  cut,
  cutInside,
  durationText,
  shortPath,
  widthOf,
  wrap,
} from '../../chatops/words.ts';
import { storePath } from './fixtures.ts';

test('clean() removes escape sequences, control and direction characters', () => {
  assert.equal(clean('\u001b[31mred\u001b[0m\u0007 a\tb\nc \u202eevil'), 'red a b c evil');
  assert.equal(clean('\u001b]0;title\u0007x'), 'x');
  assert.deepEqual(cleanLines('one\r\n\ttwo\u001b[2J\n'), ['one', '    two']);
});

test('cut() and widthOf() count columns of wide characters', () => {
  assert.equal(widthOf('漢字a'), 5);
  assert.equal(cut('漢字漢字', 5), '漢字…');
  assert.equal(cut('short', 5), 'short');
  assert.equal(cut('longer', 5), 'long…');
  assert.equal(cutInside('0123456789', 7), '01…6789');
  assert.equal(cutInside('0123456', 7), '0123456');
  for (const columns of [-1, 0, 1, 2, 3]) assert.ok(widthOf(cutInside('漢字漢字', columns)) <= Math.max(0, columns));
});

test('wrap() keeps within the columns and loses no word', () => {
  const text = `some words and ${'x'.repeat(30)} end`;
  const lines = wrap(text, 12);
  assert.ok(lines.every((line) => widthOf(line) <= 12));
  assert.equal(lines.join('').replaceAll(' ', ''), text.replaceAll(' ', ''));
});

test('bytesText(), durationText() and shortPath() choose a fitting form', () => {
  assert.deepEqual([0, 1023, 1536, 36 * 2 ** 20, 200 * 2 ** 30].map(bytesText), [
    '0 B',
    '1023 B',
    '1.5 KiB',
    '36.0 MiB',
    '200 GiB',
  ]);
  assert.deepEqual([400, 59_000, 3 * 60_000, 5 * 3_600_000, 72 * 3_600_000].map(durationText), [
    '0 s',
    '59 s',
    '3 min',
    '5 h',
    '3 d',
  ]);
  assert.equal(shortPath(storePath('a', 'x')), 'aaaaaaaa');
  assert.equal(shortPath(null), '-');
});

test('choosePaint() leaves colour out for NO_COLOR, dumb terminals and pipes', () => {
  assert.equal(choosePaint({ isTTY: true, noColor: undefined, term: 'xterm' }), colourPaint);
  assert.equal(choosePaint({ isTTY: true, noColor: '', term: 'xterm' }), colourPaint);
  assert.equal(choosePaint({ isTTY: true, noColor: '1', term: 'xterm' }), plainPaint);
  assert.equal(choosePaint({ isTTY: true, noColor: undefined, term: 'dumb' }), plainPaint);
  assert.equal(choosePaint({ isTTY: false, noColor: undefined, term: 'xterm' }), plainPaint);
});

test('renderTable() never grows wider than it may', () => {
  const columns = [
    { title: 'a', columnsMax: 10 },
    { title: 'b', columnsMax: 100 },
  ];
  const lines = renderTable(columns, [[{ text: 'x'.repeat(40) }, { text: 'y'.repeat(200) }]], 40, plainPaint);
  assert.deepEqual(
    lines.map((line) => line.length),
    [13, 40],
  );
});

test('nearestNames() finds slips of the finger and beginnings', () => {
  assert.deepEqual(nearestNames('stauts', ['status', 'task']), ['status']);
  assert.deepEqual(nearestNames('roll', ['rollback', 'deploy']), ['rollback']);
  assert.deepEqual(nearestNames('xyz', ['status']), []);
});
