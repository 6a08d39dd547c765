// Owns the check that a directive is one that its handler knows in full: etcd's runner passes over some of what it does not
// know, and a case that asks for something else than it says would count as passed.

import { type Directive, UnknownDirective } from './datadriven.ts';

/** What one command takes; each pattern has to fit a whole word or value. */
export interface Takes {
  /** The words without a value, in order; all are needed. */
  readonly words?: readonly RegExp[];
  /** Any number of further words. */
  readonly moreWords?: RegExp;
  /** The arguments with a value, by name. Several values are joined with commas. */
  readonly named?: Readonly<Record<string, RegExp>>;
  /** Names of which none may be absent. */
  readonly needed?: readonly string[];
  readonly input?: 'optional';
}

export const number = /^\d+$/;
export const numbers = /^\d+(,\d+)*$/;
export const truth = /^(true|false)$/;

/**
 * The directive's command, as one of those that `grammar` knows.
 * @throws UnknownDirective where the command, an argument, its value or the input is none that the command takes.
 */
export function commandOf<Command extends string>(
  { command, arguments: given, input }: Directive,
  grammar: Readonly<Record<Command, Takes>>,
): Command {
  if (!isOneOf(command, grammar)) throw new UnknownDirective(`unknown command '${command}'`);
  const { words = [], moreWords, named = {}, needed = [], input: takesInput }: Takes = grammar[command];
  const refuse = (what: string): never => {
    throw new UnknownDirective(`'${command}' ${what}`);
  };
  const bare = given.filter(({ values }) => values.length === 0).map(({ key }) => key);
  if (bare.length < words.length) refuse(`needs ${words.length} words, and has ${bare.length}`);
  for (const [position, word] of bare.entries()) {
    const pattern = words[position] ?? moreWords;
    if (!pattern?.test(word)) refuse(`does not take '${word}' as word ${position + 1}`);
  }
  const seen = new Set(bare);
  for (const { key, values } of given.filter((argument) => argument.values.length > 0)) {
    if (!isOneOf(key, named)) refuse(`has no argument '${key}'`);
    else if (!named[key]?.test(values.join(','))) refuse(`does not take '${values}' as '${key}'`);
    if (seen.has(key)) refuse(`has '${key}' twice`);
    seen.add(key);
  }
  const absent = needed.find((key) => !seen.has(key));
  if (absent !== undefined) refuse(`needs '${absent}'`);
  if (input !== '' && takesInput === undefined) refuse(`takes no input, and has '${input}'`);
  return command;
}

function isOneOf<Key extends string>(key: string, table: Readonly<Record<Key, unknown>>): key is Key {
  return Object.hasOwn(table, key);
}
