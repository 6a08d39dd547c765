// Owns one line of the console, typed or from a script: comments, `-` (the line may fail), `!` (a shell command in the work
// folder), `as NAME`, help, the front end's own commands; the rest is the grammar's.

import { type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { ParleyError } from '../protocols/errors.ts';
import { parseWords, splitWords } from './grammar.ts';
import { renderCommandHelp, renderHelp } from './help.ts';
import { type ExitStatus, printRefusal, type RunContext, runParsed } from './run-command.ts';

/** A command that only this console has, such as the demo's. */
export interface LocalCommand {
  readonly name: string;
  /** Lines of help: how it is written and what it does. */
  readonly help: readonly string[];
  run(words: readonly string[], context: RunContext): Promise<ExitStatus>;
  /** Words that may follow the command's name and these words. */
  complete(words: readonly string[]): readonly string[];
}

export interface ConsoleLine {
  /** Runs a line. `ended` is true for `exit` and `quit`. */
  run(line: string, context: RunContext): Promise<{ readonly status: number; readonly ended: boolean }>;
}

export interface ConsoleLineInit {
  readonly localCommands: readonly LocalCommand[];
  /** Runs a shell command with this console's terminal and gives its exit status. */
  readonly shell: (command: string, workFolder: string | undefined) => Promise<number>;
}

const consoleHelp = [
  'Console',
  '  as NAME COMMAND   speak as this operator, where the peer allows it',
  '  !COMMAND          run a shell command in the work folder',
  '  -COMMAND          in a script: go on even if the command fails',
  '  exit              leave (also Ctrl-D); Ctrl-C only leaves what is followed',
];

export function createConsoleLine(init: ConsoleLineInit): ConsoleLine {
  async function runWords(words: readonly string[], context: RunContext): Promise<ExitStatus> {
    const [name, ...rest] = words;
    if (name === 'as') return runAs(rest, context);
    const local = init.localCommands.find((command) => command.name === name);
    if (local !== undefined) return await local.run(rest, context);
    const parsed = parseWords(words);
    if (parsed.kind === 'command') return await runParsed(parsed, context);
    for (const line of helpLines(parsed.topic, context)) context.output.out(line);
    return 0;
  }

  function runAs(words: readonly string[], context: RunContext): Promise<ExitStatus> {
    const [operator, ...rest] = words;
    if (operator === undefined || rest.length === 0) {
      throw new ParleyError('usage', "'as' needs an operator and a command", { hint: 'Usage: as NAME COMMAND' });
    }
    return runWords(rest, { ...context, speakAs: operator });
  }

  function helpLines(topic: string | null, context: RunContext): string[] {
    const local = init.localCommands.find((command) => command.name === topic);
    if (local !== undefined) return [...local.help];
    if (topic !== null) return renderCommandHelp(topic, context.output.paint);
    const [title = '', ...rest] = consoleHelp;
    const more = [[context.output.paint('strong', title), ...rest], ...init.localCommands.map(({ help }) => help)];
    return renderHelp(context.output.paint, more);
  }

  return {
    async run(line, context) {
      const text = withoutComment(line).trim();
      if (text === '') return { status: 0, ended: false };
      if (text === 'exit' || text === 'quit') return { status: 0, ended: true };
      const mayFail = /^-\s*[a-z!]/.test(text);
      const bare = mayFail ? text.slice(1).trimStart() : text;
      const status = await runBare(bare, context);
      return { status: mayFail ? 0 : status, ended: false };
    },
  };

  async function runBare(text: string, context: RunContext): Promise<number> {
    try {
      if (text.startsWith('!')) return await init.shell(text.slice(1).trim(), context.workFolder);
      return await runWords(splitWords(text), context);
    } catch (error) {
      context.output.live.clear();
      return printRefusal(error, text.split(/\s/), context.output);
    }
  }
}

/** A comment is a whole line, or begins with ` # `: `fix #12` is no comment. A shell's line keeps its own. */
function withoutComment(line: string): string {
  const text = line.trim();
  if (text.startsWith('#')) return '';
  if (/^-?\s*!/.test(text)) return text;
  let quote = '';
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index] ?? '';
    if (quote !== '') quote = character === quote ? '' : quote;
    else if (character === '"' || character === "'") quote = character;
    else if (character === '\\') index += 1;
    else if (/^\s#(\s|$)/.test(text.slice(index, index + 3))) return text.slice(0, index);
  }
  return text;
}

/** Runs `sh -c` in the work folder; it reads this process's standard input only where that is the person's terminal. */
export async function runShell(
  command: string,
  workFolder: string | undefined,
  input: 'inherit' | 'ignore',
): Promise<number> {
  const terminal = input === 'inherit' && process.stdin.isTTY ? process.stdin : undefined;
  terminal?.setRawMode(false).pause();
  try {
    const stdio: StdioOptions = [input, 'inherit', 'inherit'];
    const shell = spawn('/bin/sh', ['-c', command], { stdio, ...(workFolder !== undefined && { cwd: workFolder }) });
    const [code, signal] = (await once(shell, 'exit')) as [number | null, NodeJS.Signals | null];
    return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
  } catch (cause) {
    throw new ParleyError('shell-failed', `shell command '${command}' cannot start: ${(cause as Error).message}`, {
      cause,
    });
  } finally {
    terminal?.setRawMode(true).resume();
  }
}
