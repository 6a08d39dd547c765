// Owns how small things are written for people: sizes, times, short names, and the text around them. Text from elsewhere
// (logs, commit messages, reasons) is cleaned here before it can reach a terminal.

import { stripVTControlCharacters } from 'node:util';

/** The columns that every card keeps to. */
export const columnsMax = 100;

const wideCharacter =
  /\p{Emoji_Presentation}|\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Script=Hangul}/u;
const zeroWidthCharacter = /\p{Mark}|\p{Cf}/u;
/** Control characters and the marks that turn the direction of text: either could make a line say what it does not. */
const unsafeCharacter = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu;

/** One line of text without escape sequences and control characters; tabs and newlines become spaces. */
export function clean(text: string): string {
  return stripVTControlCharacters(text)
    .replaceAll(/\r?\n|\t/g, ' ')
    .replaceAll(unsafeCharacter, '');
}

/** Lines of a longer text, each cleaned. */
export function cleanLines(text: string): string[] {
  return text.replace(/\n$/, '').split('\n').map(cleanLine);
}

function cleanLine(line: string): string {
  return stripVTControlCharacters(line).replaceAll('\t', '    ').replaceAll(unsafeCharacter, '');
}

/** Terminal columns of a cleaned text. */
export function widthOf(text: string): number {
  let width = 0;
  for (const character of text) {
    if (zeroWidthCharacter.test(character)) continue;
    width += wideCharacter.test(character) ? 2 : 1;
  }
  return width;
}

/** As `cut`, for what is told by its beginning and its end, such as commands. */
export function cutInside(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  const head = cut(text, Math.ceil(columns / 3));
  const tail = [...cut([...text].reverse().join(''), columns - widthOf(head) + 1)].reverse().slice(1);
  return head + tail.join('');
}

/** The text in at most `columns`, ending in `…` where it was cut. */
export function cut(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  if (columns < 1) return '';
  let kept = '';
  let width = 0;
  for (const character of text) {
    width += widthOf(character);
    if (width > columns - 1) break;
    kept += character;
  }
  return `${kept.trimEnd()}…`;
}

export function pad(text: string, columns: number): string {
  return text + ' '.repeat(Math.max(0, columns - widthOf(text)));
}

/** Breaks a text at spaces into lines of at most `columns`, indented; a longer word is cut into pieces. */
export function wrap(text: string, columns: number, indent = 0): string[] {
  return broken(text, columns - indent).map((line) => ' '.repeat(indent) + line);
}

function broken(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ').flatMap((whole) => pieces(whole, columns))) {
    if (line !== '' && widthOf(line) + 1 + widthOf(word) > columns) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}

function pieces(word: string, columns: number): string[] {
  if (widthOf(word) <= columns) return [word];
  const parts: string[] = [];
  let part = '';
  for (const character of word) {
    if (widthOf(part) + widthOf(character) > columns) {
      parts.push(part);
      part = '';
    }
    part += character;
  }
  return [...parts, part];
}

const byteUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

export function bytesText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < byteUnits.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${byteUnits[unit]}`;
}

/** A length of time in its largest fitting unit: `4 s`, `3 min`, `2 h`, `5 d`. */
export function durationText(durationMs: number): string {
  const seconds = Math.max(0, Math.round(durationMs / 1000));
  if (seconds < 100) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} d`;
}

/** UTC, to the second: `2026-11-20 23:29:44`. */
export function timeText(timeMs: number): string {
  return new Date(timeMs).toISOString().slice(0, 19).replace('T', ' ');
}

/** The first eight characters of a revision or hash. */
export function shortHash(hash: string | null): string {
  return hash === null ? '-' : hash.slice(0, 8);
}

/** The first eight characters of a store path's hash part. */
export function shortPath(storePath: string | null): string {
  return storePath === null ? '-' : storePath.slice('/nix/store/'.length, '/nix/store/'.length + 8);
}

/** `1 host`, `3 hosts`. */
export function countText(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
