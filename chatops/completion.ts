// Owns completion: which words can follow what was typed, from the table of commands and what the fleet has.

import type { CommandSpec, WordKind } from './command-spec.ts';
import { commandNames, namedSpec, secondWords } from './commands.ts';

/** Names that the last answers of the fleet held. */
export interface FleetNames {
  readonly hosts: readonly string[];
  readonly tags: readonly string[];
  readonly tasks: readonly string[];
  readonly operators: readonly string[];
}

export interface Completion {
  /** Whole words that may replace `word`. */
  readonly candidates: readonly string[];
  /** The unfinished word at the end of the line. */
  readonly word: string;
}

/** Completes the last word of a line; `localCommands` are those that the front end itself understands. */
export function complete(line: string, names: FleetNames, localCommands: readonly string[] = []): Completion {
  const words = line.trimStart().split(/\s+/);
  const whole = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  if (before[0] === 'as') {
    if (before.length === 1) return matching(whole, names.operators);
    return complete(line.trimStart().replace(/^as\s+\S+\s+/, ''), names, localCommands);
  }
  if (before.length === 0) return matching(whole, [...firstWords, 'help', ...localCommands]);
  if (before[0] === 'help') return before.length === 1 ? matching(whole, firstWords) : seconds(before.slice(1), whole);
  const named = namedSpec(before);
  if (named === undefined) return { candidates: [], word: whole };
  const { candidates, word } = completeFor(named.spec, before.slice(named.count), whole, names);
  return { candidates: [...seconds(before, whole).candidates, ...candidates], word };
}

const firstWords = commandNames.filter((name) => !name.includes(' '));

function seconds(before: readonly string[], word: string): Completion {
  return matching(word, before.length === 1 ? secondWords(before[0] ?? '') : []);
}

function completeFor(spec: CommandSpec, before: readonly string[], word: string, names: FleetNames): Completion {
  if (word.startsWith('-')) {
    return matching(word, [...spec.options.map((option) => `--${option.name}`), '--json', '--help']);
  }
  const position = before.filter((given) => !given.startsWith('-')).length;
  const argument = spec.arguments[position];
  if (argument?.kind !== 'selector') return matching(word, wordsOf(argument?.kind, names));
  const lastTerm = /[^,&!()]*$/.exec(word)?.[0] ?? '';
  const head = word.slice(0, word.length - lastTerm.length);
  const terms = [...names.hosts, '@all', ...names.tags.map((tag) => `@${tag}`)];
  return { candidates: matching(lastTerm, terms).candidates.map((term) => head + term), word };
}

function wordsOf(kind: WordKind | undefined, names: FleetNames): readonly string[] {
  if (kind === 'task') return names.tasks;
  if (kind === 'host') return names.hosts;
  return [];
}

function matching(word: string, candidates: readonly string[]): Completion {
  return { candidates: candidates.filter((candidate) => candidate.startsWith(word)), word };
}
