// Owns the reading of Nix's complaints: from many lines to the one error that a person needs, with a code to act on.

import { stripVTControlCharacters } from 'node:util';
import { ParleyError, type ParleyErrorInit } from '../../protocols/errors.ts';

/** Lines of one message; what follows is an echo of the trace. */
const messageLinesMax = 30;
const messageCharactersMax = 3_000;

interface KnownFailure {
  readonly pattern: RegExp;
  readonly code: string;
  readonly retryable: boolean;
  readonly hint?: string;
}

/** The first that fits names the failure. Wordings of Nix 2.8 up to 2.3x. */
const knownFailures: readonly KnownFailure[] = [
  {
    pattern: /No space left on device|database or disk is full/i,
    code: 'disk-full',
    retryable: true,
    hint: 'Free space on the file system that holds the store, then retry.',
  },
  {
    pattern: /does not have a valid signature|lacks a (valid )?signature|is not signed by any of the keys/i,
    code: 'untrusted-path',
    retryable: false,
    hint: 'The path is not signed by a builder of this fleet: build and deploy it again.',
  },
  {
    pattern: /hash mismatch (importing|in)|NAR hash .* mismatch|size mismatch/i,
    code: 'corrupt-path',
    retryable: true,
  },
  { pattern: /still alive|is in use|Cannot delete/i, code: 'path-in-use', retryable: true },
  { pattern: /no substituter that can build it|don't know how to build/i, code: 'path-missing', retryable: true },
];

/** The error of a nix program that ended with another status than 0: a code of the table above, or `nix-failed`. */
export function nixFailure(program: string, exitCode: number, stderr: string): ParleyError {
  const text = trimNixError(stderr);
  const known = knownFailures.find((failure) => failure.pattern.test(stderr));
  const init: ParleyErrorInit = {
    retryable: known?.retryable ?? false,
    ...(known?.hint === undefined ? {} : { hint: known.hint }),
  };
  const state = text === '' ? `status ${exitCode} without a message` : text;
  return new ParleyError(known?.code ?? 'nix-failed', `${program} failed: ${state}`, init);
}

/** Errors that only say that something else failed: Nix prints them after the error proper. */
const consequence = /^error: (build of '|\d+ dependenc|some (references|outputs|substitutes) of)/;
/** Warnings that are the reason where no error tells it. */
const reason = /not signed by|valid signature|hash mismatch|unable to download|don't know how to build/;

/**
 * What a person needs of Nix's standard error: the error proper with its place in the file, or the warnings that explain a
 * failure without one; no escape sequences, traces and advice about flags.
 */
export function trimNixError(stderr: string): string {
  const lines = stripVTControlCharacters(stderr)
    .split('\n')
    .map((line) => line.trimEnd());
  const text = withoutTrace(properError(lines))
    .filter((line) => !/^\(use '--show-trace'/.test(line.trim()))
    .slice(0, messageLinesMax)
    .join('\n')
    .replace(/^error:\s*/, '')
    .replace(/\n{3,}/g, '\n\n')
    .trim();
  return text.length > messageCharactersMax ? `${text.slice(0, messageCharactersMax)} …[cut]` : text;
}

function properError(lines: readonly string[]): readonly string[] {
  const start = lines.findLastIndex((line) => line.startsWith('error:') && !consequence.test(line));
  if (start !== -1) {
    const rest = lines.slice(start + 1);
    const end = rest.findIndex((line) => /^(error|warning):/.test(line));
    return lines.slice(start, end === -1 ? undefined : start + 1 + end);
  }
  const warnings = lines.filter((line) => reason.test(line) && !line.includes('retrying in'));
  const words = warnings.slice(-2).map((line) => line.replace(/^warning:\s*/, ''));
  return words.length > 0 ? words : lines.filter((line) => line !== '').slice(-5);
}

/** Newer versions print `… while …` steps between `error:` and the error proper, which repeats the word. */
function withoutTrace(lines: readonly string[]): readonly string[] {
  const proper = lines.findLastIndex((line, index) => index > 0 && /^\s+error:/.test(line));
  if (proper === -1) return lines;
  return lines.slice(proper).map((line) => line.replace(/^\s{7}/, ''));
}
