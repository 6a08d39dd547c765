// Owns the grammar: a line of text, or a program's words, into one command of protocols/control.ts. Pure. The table in
// commands.ts says which commands there are; every front end that takes text comes through here.

import { check, problemOf } from '../protocols/codec.ts';
import { type Command, commandSchema } from '../protocols/control.ts';
import { ParleyError } from '../protocols/errors.ts';
import { type CommandSpec, type GivenWords, type OptionSpec, programOptions } from './command-spec.ts';
import { commandNames, namedSpec, secondWords, usageOf } from './commands.ts';
import { nearestNames } from './nearest.ts';

/** Longest line that is read; a command's text is cut far below this by its schema. */
const lineCharactersMax = 16_384;

export interface ParsedCommand {
  readonly kind: 'command';
  readonly command: Command;
  /** Follow the command's task until it ends or waits for a person. */
  readonly follow: boolean;
  readonly json: boolean;
}

export interface ParsedHelp {
  readonly kind: 'help';
  readonly topic: string | null;
}

export type ParsedLine = ParsedCommand | ParsedHelp;

/**
 * Splits a line into words as a shell does: blanks separate, '…' is literal, "…" and bare words take backslashes.
 * @throws ParleyError `usage` for a quote that is not closed.
 */
export function splitWords(line: string): string[] {
  if (line.length > lineCharactersMax) {
    throw usageError(`the line has ${line.length} characters: the limit is ${lineCharactersMax}`);
  }
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let index = 0; index < line.length; index += 1) {
    const character = line[index] ?? '';
    if (quote === "'") {
      if (character === "'") quote = '';
      else word += character;
    } else if (character === '\\' && index + 1 < line.length) {
      index += 1;
      word = (word ?? '') + unescaped(quote, line[index] ?? '');
    } else if (character === quote) {
      quote = '';
    } else if (quote === '' && (character === '"' || character === "'")) {
      quote = character;
      word ??= '';
    } else if (quote === '' && /\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      word = (word ?? '') + character;
    }
  }
  if (quote !== '') throw usageError(`a quote is not closed: ${quote} is missing at the end`);
  return word === undefined ? words : [...words, word];
}

function unescaped(quote: string, character: string): string {
  return quote === '"' && !'"\\$`'.includes(character) ? `\\${character}` : character;
}

/** Parses a line; see parseWords. */
export function parseLine(line: string): ParsedLine {
  return parseWords(splitWords(line));
}

/**
 * Parses words into a command.
 * @throws ParleyError `usage` with a hint that shows how the command is written.
 */
export function parseWords(words: readonly string[]): ParsedLine {
  const [name, ...rest] = words;
  if (name === undefined) throw usageError('no command given', "'help' lists the commands.");
  if (name === 'help') return { kind: 'help', topic: namedSpec(rest)?.spec.name ?? rest[0] ?? null };
  const named = namedSpec(words);
  if (named === undefined) throw unknownCommand(name);
  const { spec, count } = named;
  if (rest.includes('--help')) return { kind: 'help', topic: spec.name };
  const given = readWords(spec, words.slice(count));
  const follow = spec.follows && !given.given('no-wait');
  return { kind: 'command', command: checked(spec, spec.build(given)), follow, json: given.given('json') };
}

function checked(spec: CommandSpec, command: unknown): Command {
  const problem = problemOf(commandSchema, command);
  if (problem === undefined) return check(commandSchema, command);
  const field = (problem.path ?? 'command').replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  throw usageError(
    `'${spec.name}' cannot take this ${fieldWords[field] ?? field}: ${problem.message}`,
    usageHint(spec),
  );
}

/** Fields that people know by another name. */
const fieldWords: Readonly<Record<string, string>> = { limit: 'count', 'expires in ms': 'expiry' };

function unknownCommand(name: string): ParleyError {
  const nearest = nearestNames(name, [...commandNames, 'help']);
  const hint = nearest.length === 0 ? "'help' lists the commands." : `Did you mean ${nearest.join(' or ')}?`;
  return usageError(`no such command: '${name}'`, hint);
}

function unknownSecond(spec: CommandSpec, word: string, known: readonly string[]): ParleyError {
  const nearest = nearestNames(word, known);
  const shown = (nearest.length === 0 ? known : nearest).map((second) => `${spec.name} ${second}`);
  const hint =
    nearest.length === 0 ? `There are ${spec.name}, ${shown.join(', ')}.` : `Did you mean ${shown.join(' or ')}?`;
  return usageError(`no such command: '${spec.name} ${word}'`, hint);
}

interface Collected {
  readonly positionals: string[];
  readonly options: Map<string, string>;
}

const everywhere: readonly OptionSpec[] = [
  { name: 'json', summary: 'print the answer as one JSON document' },
  { name: 'help', summary: 'show how the command is written' },
];

function readWords(spec: CommandSpec, words: readonly string[]): GivenWords {
  const { positionals, options } = collect(spec, words);
  const last = spec.arguments.at(-1);
  const takesRest = last?.rest === true;
  if (!takesRest && positionals.length > spec.arguments.length) {
    const extra = positionals.slice(spec.arguments.length).join(' ');
    const second = secondWords(spec.name);
    if (second.length > 0) throw unknownSecond(spec, positionals[0] ?? '', second);
    throw usageError(`'${spec.name}' does not take '${extra}': quote words that belong together`, usageHint(spec));
  }
  const missing = spec.arguments.find((argument, index) => argument.required && positionals[index] === undefined);
  if (missing !== undefined) throw usageError(`'${spec.name}' needs ${missing.name}`, usageHint(spec));
  const absent = spec.options.find((option) => option.required === true && !options.has(option.name));
  if (absent !== undefined) throw usageError(`'${spec.name}' needs --${absent.name}`, usageHint(spec));
  const indexOf = (name: string) => spec.arguments.findIndex((argument) => argument.name === name);
  return {
    argument: (name) => positionals[indexOf(name)],
    rest: (name) => positionals.slice(indexOf(name)),
    option: (name) => options.get(name),
    given: (name) => options.has(name),
  };
}

function collect(spec: CommandSpec, words: readonly string[]): Collected {
  const positionals: string[] = [];
  const options = new Map<string, string>();
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] ?? '';
    if (word === '--') {
      positionals.push(...words.slice(index + 1));
      break;
    }
    if (!/^-[-a-zA-Z]/.test(word)) {
      positionals.push(word);
      continue;
    }
    const [name = '', inline] = splitOption(word);
    const option = findOption(spec, name);
    if (option === undefined) throw unknownOption(spec, name);
    if (option.value === undefined) {
      if (inline !== undefined) throw usageError(`'--${option.name}' takes no value`, usageHint(spec));
      options.set(option.name, '');
      continue;
    }
    const value = inline ?? words[index + 1];
    if (value === undefined) throw usageError(`'--${option.name}' needs ${option.value}`, usageHint(spec));
    if (inline === undefined) index += 1;
    options.set(option.name, value);
  }
  return { positionals, options };
}

function splitOption(word: string): [name: string, inline: string | undefined] {
  const equals = word.startsWith('--') ? word.indexOf('=') : -1;
  return equals === -1 ? [word, undefined] : [word.slice(0, equals), word.slice(equals + 1)];
}

function findOption(spec: CommandSpec, name: string): OptionSpec | undefined {
  return [...spec.options, ...everywhere].find(
    (option) => name === `--${option.name}` || (option.short !== undefined && name === `-${option.short}`),
  );
}

function unknownOption(spec: CommandSpec, name: string): ParleyError {
  return usageError(`'${spec.name}' has no option '${name}'`, optionHint(spec, name));
}

function optionHint(spec: CommandSpec, name: string): string {
  const value = programOptions[name];
  if (value !== undefined) {
    return `It goes before the command, where the program is started: parley ${name} ${value} ${spec.name}`;
  }
  const known = [...spec.options, ...everywhere].map((option) => `--${option.name}`);
  const nearest = nearestNames(name, known);
  return nearest.length === 0 ? usageHint(spec) : `Did you mean ${nearest.join(' or ')}?`;
}

function usageHint(spec: CommandSpec): string {
  return `Usage: ${usageOf(spec)}`;
}

function usageError(message: string, hint?: string): ParleyError {
  return new ParleyError('usage', message, hint === undefined ? {} : { hint });
}
