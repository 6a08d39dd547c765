// Owns the console: a prompt with history and completion, commands run one after another, notices above the prompt, and
// Ctrl-C that leaves what is followed without ending it.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import type { Notice } from '../protocols/ledger-state.ts';
import type { CardContext } from './card-context.ts';
import { renderNotice } from './cards.ts';
import { complete, type FleetNames } from './completion.ts';
import type { ConsoleLine, LocalCommand } from './console-line.ts';
import { createFleetNames } from './fleet-names.ts';
import { followNotices } from './notice-feed.ts';
import type { Output, RunContext } from './run-command.ts';
import { readScript, runScript } from './script.ts';
import { columnsMax } from './words.ts';

const prompt = 'parley> ';
const historyLinesMax = 500;

export interface ConsoleInit {
  /** How commands are run; its signal ends the console. */
  readonly context: RunContext;
  readonly line: ConsoleLine;
  readonly localCommands: readonly LocalCommand[];
  /** Where typed lines are kept between runs; undefined keeps none. */
  readonly historyFile: string | undefined;
  readonly greeting: readonly string[];
}

/**
 * Runs the lines of a file, or of standard input for `-`, as the console would; gives the exit status. Notices go to standard
 * error: they come when they will, and answers must stay whole for who reads them by a program.
 */
export async function runConsoleScript(file: string, line: ConsoleLine, context: RunContext): Promise<number> {
  const { output, attachment } = context;
  const feed = new AbortController();
  const onNotice = (notice: Notice) => {
    output.live.clear();
    for (const text of renderNotice(notice, cardContext(output))) output.err(text);
  };
  void followNotices(attachment, onNotice, feed.signal);
  try {
    return await runScript(readScript(file), line, context);
  } finally {
    feed.abort();
  }
}

/** Runs the console on this process's terminal until the person leaves or the context's signal aborts. */
export async function runConsole(init: ConsoleInit): Promise<void> {
  const { context } = init;
  const { output, attachment } = context;
  const names = createFleetNames(attachment);
  const terminal = createInterface({
    input: process.stdin,
    output: process.stdout,
    prompt,
    historySize: historyLinesMax,
    history: readHistory(init.historyFile),
    removeHistoryDuplicates: true,
    completer: (line: string) => completer(line, names.known(), init.localCommands),
  });
  const feed = new AbortController();
  let running: AbortController | undefined;
  const onNotice = (notice: Notice) => {
    if (running === undefined) process.stdout.write('\r\u001b[2K');
    else output.live.clear();
    for (const line of renderNotice(notice, cardContext(output))) output.out(line);
    if (running === undefined) terminal.prompt(true);
  };
  void followNotices(attachment, onNotice, feed.signal);
  terminal.on('history', (history) => keepHistory(init.historyFile, history));
  terminal.on('SIGINT', () => onInterrupt(running, terminal, output));
  context.signal.addEventListener('abort', () => terminal.close(), { once: true });

  for (const line of init.greeting) output.out(line);
  void names.refresh(context.signal);
  terminal.prompt();
  try {
    for await (const text of terminal) {
      running = new AbortController();
      const { ended } = await init.line.run(text, {
        ...context,
        signal: AbortSignal.any([running.signal, context.signal]),
      });
      running = undefined;
      if (ended) return;
      void names.refresh(context.signal);
      terminal.prompt();
    }
  } finally {
    feed.abort();
    terminal.close();
  }
}

function cardContext(output: Output): CardContext {
  return { paint: output.paint, columns: columnsMax, nowMs: Date.now() };
}

function readHistory(file: string | undefined): string[] {
  if (file === undefined || !existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .slice(0, historyLinesMax);
}

function keepHistory(file: string | undefined, lines: readonly string[]): void {
  if (file !== undefined) writeFileSync(file, `${lines.slice(0, historyLinesMax).join('\n')}\n`, { mode: 0o600 });
}

function onInterrupt(running: AbortController | undefined, terminal: Interface, output: Output): void {
  if (running !== undefined) {
    running.abort();
    return;
  }
  output.out('');
  output.out("('exit' or Ctrl-D leaves)");
  terminal.write(null, { ctrl: true, name: 'e' });
  terminal.write(null, { ctrl: true, name: 'u' });
  terminal.prompt();
}

function completer(
  line: string,
  names: FleetNames,
  localCommands: readonly LocalCommand[],
): [candidates: string[], word: string] {
  const words = line.trimStart().split(/\s+/);
  const word = words.at(-1) ?? '';
  const local = words.length > 1 ? localCommands.find(({ name }) => name === words[0]) : undefined;
  if (local !== undefined) {
    return [local.complete(words.slice(1, -1)).filter((candidate) => candidate.startsWith(word)), word];
  }
  const { candidates } = complete(line, names, [...localCommands.map(({ name }) => name), 'as', 'exit']);
  const [only] = candidates;
  return [candidates.length === 1 && only !== undefined ? [`${only} `] : [...candidates], word];
}
