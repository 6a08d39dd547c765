// Owns the reading of Porcupine's recorded histories and their known verdicts: Jepsen's logs of one etcd register each, and
// key-value histories.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { judge, type Operation, type Verdict } from './linearizability.ts';
import { type RegisterInput, type RegisterOutput, registerModel, type TextInput, textModel } from './models.ts';

export interface PorcupineTally {
  readonly histories: number;
  readonly right: number;
  readonly wrong: readonly { readonly file: string; readonly expected: string; readonly verdict: string }[];
}

/** A text that is no history as a whole: what of it could be judged would say nothing about the rest. */
class NoHistory extends Error {}

/** Judges each history that `verdicts.txt` in the folder names. */
export async function runPorcupine(folder: string): Promise<PorcupineTally> {
  const lines = (await readFile(join(folder, 'verdicts.txt'), 'utf8')).split('\n').filter((line) => line !== '');
  const wrong: PorcupineTally['wrong'][number][] = [];
  for (const line of lines) {
    const [file = '', expected = ''] = line.split(' ');
    const verdict = judgeFile(file, await readFile(join(folder, file), 'utf8'));
    if (verdict !== expected) wrong.push({ file, expected, verdict });
  }
  return { histories: lines.length, right: lines.length - wrong.length, wrong };
}

function judgeFile(file: string, text: string): Verdict | `no history: ${string}` {
  try {
    return file.startsWith('jepsen/') ? judge(registerModel, readRegister(text)) : judge(textModel, readTexts(text));
  } catch (error) {
    if (error instanceof NoHistory) return `no history: ${error.message}`;
    throw error;
  }
}

/** One line of a history: a call, or how it ended. */
interface Event<Input, Output> {
  readonly process: string;
  readonly end: 'invoke' | 'ok' | 'fail' | 'info';
  readonly key: string;
  readonly input: Input;
  /** Of an end other than `info`. */
  readonly output: Output;
}

const endOf = (text: string | undefined): Event<unknown, unknown>['end'] =>
  text === 'ok' || text === 'fail' || text === 'info' ? text : 'invoke';

/** Lines `INFO  jepsen.util - PROCESS :END :KIND VALUE` with tabs; those without `jepsen.util` are Jepsen's own. */
function readRegister(text: string): Operation<RegisterInput, RegisterOutput>[] {
  const pattern =
    /^INFO\s+jepsen\.util - (\d+)\t:(invoke|ok|fail|info)\t:(read|write|cas)\t(nil|\d+|\[\d+ \d+\]|:timed-out)$/;
  const lines = text.split('\n').filter((line) => line.includes('jepsen.util'));
  const events = matchAll(lines, pattern).map(([, process = '', end, kind, value = '']) => ({
    process,
    end: endOf(end),
    key: '',
    input: registerInput(kind, value),
    output: kind === 'read' ? value : end === 'ok',
  }));
  return pairUp(events);
}

function registerInput(kind: string | undefined, value: string): RegisterInput {
  if (kind === 'read') return { kind };
  if (kind === 'write') return { kind, value };
  const [old = '', swapped = ''] = value.replace(/[[\]]/g, '').split(' ');
  return { kind: 'cas', old, value: swapped };
}

/** Lines `{:process N, :type :END, :f :KIND, :key "K", :value "V"}`. */
function readTexts(text: string): Operation<TextInput, string>[] {
  const pattern =
    /^\{:process (\d+), :type :(invoke|ok|fail|info), :f :(get|put|append), :key "([^"]*)", :value (?:nil|"([^"]*)")\}$/;
  const lines = text.split('\n').filter((line) => line !== '');
  const events = matchAll(lines, pattern).map(([, process = '', end, kind, key = '', value = '']) => ({
    process,
    end: endOf(end),
    key,
    input: textInput(kind, value),
    output: kind === 'get' ? value : '',
  }));
  return pairUp(events);
}

function textInput(kind: string | undefined, value: string): TextInput {
  return kind === 'put' || kind === 'append' ? { kind, value } : { kind: 'get', value: '' };
}

function matchAll(lines: readonly string[], pattern: RegExp): RegExpExecArray[] {
  return lines.map((line) => {
    const found = pattern.exec(line);
    if (!found) throw new NoHistory(`it has a line '${line}'`);
    return found;
  });
}

/** Each process has one operation at a time. One that ends with `info`, or not at all, has an unknown outcome. */
function pairUp<Input, Output>(events: readonly Event<Input, Output>[]): Operation<Input, Output>[] {
  const running = new Map<string, Operation<Input, Output>>();
  const operations: Operation<Input, Output>[] = [];
  for (const [position, { process, end, key, input, output }] of events.entries()) {
    const call = running.get(process);
    if ((end === 'invoke') !== (call === undefined)) {
      throw new NoHistory(`process ${process} ${call ? 'calls while it waits' : 'has an answer without a call'}`);
    }
    if (end === 'invoke') {
      running.set(process, { key, input, output: undefined, calledAt: position, returnedAt: Number.POSITIVE_INFINITY });
    } else if (call) {
      operations.push(end === 'info' ? call : { ...call, output, returnedAt: position });
      running.delete(process);
    }
  }
  operations.push(...running.values());
  if (operations.length === 0) throw new NoHistory('it has no operations');
  return operations;
}
