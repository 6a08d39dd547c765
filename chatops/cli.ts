// Owns the one-shot command line: `parley [options] COMMAND`, and the way into the console. Exit status 0 only for success.

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { defaultStateFolder } from '../node/config.ts';
import { connectControl, controlSocketPath } from '../node/control/client.ts';
import { ParleyError } from '../protocols/errors.ts';
import { createAttachment } from './attachment.ts';
import { programOptions } from './command-spec.ts';
import { createConsoleLine, runShell } from './console-line.ts';
import { parseWords } from './grammar.ts';
import { renderCommandHelp, renderHelp } from './help.ts';
import { printRefusal, type RunContext, runParsed } from './run-command.ts';
import { createTerminalOutput, readerGoneStatus, terminalClock } from './terminal.ts';

/** A peer that restarts or fails over is back within this time. */
const patienceMs = 20_000;

interface Options {
  /** State folders of peers on this machine; the next is asked when one does not answer. */
  readonly stateFolders: readonly string[];
  readonly speakAs: string | undefined;
  readonly workFolder: string | undefined;
  readonly script: string | undefined;
  readonly json: boolean;
  readonly words: readonly string[];
}

/** Runs the command line and gives the process's exit status. */
export async function runCli(arguments_: readonly string[]): Promise<number> {
  const output = createTerminalOutput(process.env, () => process.exit(readerGoneStatus));
  try {
    const options = readOptions(arguments_);
    const interrupted = new AbortController();
    const attachment = createAttachment({
      sockets: () => options.stateFolders.map(controlSocketPath),
      patienceMs: options.words[0] === 'console' ? patienceMs : 0,
    })({ connect: connectControl, clock: terminalClock });
    const context: RunContext = {
      attachment,
      output,
      nowMs: Date.now,
      signal: interrupted.signal,
      speakAs: options.speakAs,
      workFolder: options.workFolder,
    };
    if (options.words[0] === 'console') return await openConsole(options, context);
    process.once('SIGINT', () => interrupted.abort());
    return await runOnce(options, context);
  } catch (error) {
    output.live.clear();
    return printRefusal(error, arguments_, output);
  }
}

async function runOnce(options: Options, context: RunContext): Promise<number> {
  const parsed = parseWords(options.words);
  if (parsed.kind === 'command') return await runParsed({ ...parsed, json: parsed.json || options.json }, context);
  const { output } = context;
  const lines =
    parsed.topic === null ? renderHelp(output.paint, [optionsHelp]) : renderCommandHelp(parsed.topic, output.paint);
  for (const line of lines) output.out(line);
  return 0;
}

async function openConsole(options: Options, context: RunContext): Promise<number> {
  const { runConsole, runConsoleScript } = await import('./console.ts');
  const script = options.script ?? (process.stdin.isTTY ? undefined : '-');
  const line = createConsoleLine({
    localCommands: [],
    shell: (command, workFolder) => runShell(command, workFolder, script === undefined ? 'inherit' : 'ignore'),
  });
  if (script !== undefined) return await runConsoleScript(script, line, context);
  await runConsole({
    context,
    line,
    localCommands: [],
    historyFile: join(options.stateFolders[0] ?? '.', 'console-history'),
    greeting: ["'help' lists the commands."],
  });
  return 0;
}

const optionsHelp: readonly string[] = [
  'Options',
  '  --state DIR     state folder of the peer to ask; given again: of the next one, if that does not answer',
  '  --config FILE   its configuration, where that lies elsewhere',
  '  --work DIR      your checkout of the project; its changes become the draft',
  '                  (a checkout that you used before is found from within it)',
  '  --as NAME       speak as this operator, where the peer allows it',
  '  --run FILE|-    with console: run its lines instead of a prompt',
  '  --json          print the answer as one JSON document',
  '',
  'Exit status',
  '  0  succeeded, or the task now waits for a person',
  '  1  failed, refused, or did not end well',
  '  2  not understood',
  '  3  nobody could tell: ask again',
];

function readOptions(arguments_: readonly string[]): Options {
  const given = new Map<string, string>();
  const states: string[] = [];
  let json = false;
  let index = 0;
  const takeOptions = (names: readonly string[]) => {
    for (; arguments_[index]?.startsWith('-'); index += 1) {
      const [name = '', inline] = (arguments_[index] ?? '').split(/=(.*)/s, 2);
      if (name === '--json' && inline === undefined) {
        json = true;
        continue;
      }
      if (!names.includes(name)) throw unknownOption(name);
      const value = inline ?? arguments_[++index];
      if (value === undefined || value === '') throw new ParleyError('usage', `option '${name}' needs a value`);
      if (name === '--state') states.push(resolve(value));
      else given.set(name, value);
    }
  };
  takeOptions(Object.keys(programOptions));
  const words = arguments_.slice(index);
  if (words[0] === 'console') {
    index += 1;
    takeOptions([...Object.keys(programOptions), '--run']);
    if (index < arguments_.length) throw new ParleyError('usage', `'console' does not take '${arguments_[index]}'`);
  }
  const work = given.get('--work');
  return {
    stateFolders: states.length > 0 ? states : [stateFolderOf(given.get('--config'))],
    speakAs: given.get('--as'),
    workFolder: work === undefined ? knownWorkFolder(process.cwd()) : resolve(work),
    script: given.get('--run'),
    json,
    words,
  };
}

function stateFolderOf(config: string | undefined): string {
  return config === undefined ? defaultStateFolder() : dirname(resolve(config));
}

function unknownOption(name: string): ParleyError {
  return new ParleyError('usage', `no such option: '${name}'`, { hint: "'parley help' lists commands and options." });
}

/** The checkout around a folder, if the fleet has taken a draft from it before: an unrelated repository must never become one. */
function knownWorkFolder(folder: string): string | undefined {
  const top = join(folder, '.git');
  if (existsSync(top)) return hasDraftReference(top) ? folder : undefined;
  const parent = dirname(folder);
  return parent === folder ? undefined : knownWorkFolder(parent);
}

function hasDraftReference(gitFolder: string): boolean {
  if (existsSync(join(gitFolder, 'refs/parley/draft'))) return true;
  const packed = join(gitFolder, 'packed-refs');
  return existsSync(packed) && readFileSync(packed, 'utf8').includes(' refs/parley/draft\n');
}
