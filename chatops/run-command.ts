// Owns the way from one parsed command to what a person or program reads and the exit status: asks the attached peer,
// shows progress, draws views or prints them as JSON. The console and the one-shot command line both run commands here.

import { randomBytes } from 'node:crypto';
import { check } from '../protocols/codec.ts';
import type { CommandEvent, CommandRequest } from '../protocols/control.ts';
import { type ErrorRecord, errorDocument, ParleyError, toErrorRecord } from '../protocols/errors.ts';
import { type LogLine, noticesViewSchema } from '../protocols/views.ts';
import type { Attachment } from './attachment.ts';
import type { CardContext } from './card-context.ts';
import { renderLogLine } from './card-task.ts';
import { renderView } from './cards.ts';
import { usesWorkFolder } from './commands.ts';
import type { ParsedCommand } from './grammar.ts';
import type { LiveLine } from './live-line.ts';
import { outcomeTone, type Paint } from './paint.ts';
import { bytesText, clean, cleanLines, columnsMax, wrap } from './words.ts';

/** Exit statuses: 0 done, 1 it failed, 2 not understood, 3 nobody knows (ask again). */
export type ExitStatus = 0 | 1 | 2 | 3;

export interface Output {
  /** A line of the answer, to standard output. */
  out(line: string): void;
  /** A line about the answer (errors, hints), to standard error. */
  err(line: string): void;
  readonly live: LiveLine;
  readonly paint: Paint;
}

export interface RunContext {
  readonly attachment: Attachment;
  readonly output: Output;
  readonly nowMs: () => number;
  /** Aborting detaches from what is followed. */
  readonly signal: AbortSignal;
  readonly speakAs: string | undefined;
  readonly workFolder: string | undefined;
}

/** Runs a command to its last event and says how it ended. Never throws for what a peer or a person did. */
export async function runParsed(parsed: ParsedCommand, context: RunContext): Promise<ExitStatus> {
  const printer = parsed.json ? jsonPrinter(parsed, context) : textPrinter(parsed, context);
  const { live } = context.output;
  try {
    for await (const event of context.attachment.run(toRequest(parsed, context), { signal: context.signal })) {
      if (event.kind === 'progress') live.update(progressText(event));
      else {
        live.clear();
        const status = printer.take(event);
        if (status !== undefined) return status;
      }
    }
    throw new ParleyError('connection-lost', 'the answer stopped before its end', { retryable: true });
  } catch (error) {
    live.clear();
    return printer.fail(toErrorRecord(error));
  }
}

/** Prints why these words of a command line came to nothing: with --json among them, also as the document that is waited for. */
export function printRefusal(error: unknown, words: readonly string[], output: Output): ExitStatus {
  const record = toErrorRecord(error);
  if (words.includes('--json')) output.out(errorDocument(record));
  return printError(record, output);
}

/** Prints an error and its hint, and gives the exit status that its code stands for. */
export function printError(error: ErrorRecord, output: Output): ExitStatus {
  const [first = '', ...rest] = cleanLines(error.message);
  output.err(`${output.paint('bad', 'Error:')} ${first}`);
  for (const line of rest) output.err(`  ${line}`);
  if (error.hint !== undefined) output.err(`  ${clean(error.hint)}`);
  return statusOfError(error);
}

const unknownCodes: readonly string[] = [
  'outcome-unknown',
  'connection-lost',
  'no-peer-here',
  'no-controller',
  'cancelled',
];

function statusOfError(error: ErrorRecord): ExitStatus {
  if (error.code === 'usage') return 2;
  return unknownCodes.includes(error.code) ? 3 : 1;
}

/** A task that waits has, as its outcome, what came of it so far. */
function statusOfEnd(event: Extract<CommandEvent, { kind: 'end' }>): ExitStatus {
  if (event.outcome === 'succeeded') return 0;
  return event.outcome === 'unknown' ? 3 : 1;
}

function toRequest(parsed: ParsedCommand, context: RunContext): CommandRequest {
  const { speakAs, workFolder } = context;
  return {
    version: 1,
    id: `c-${randomBytes(12).toString('hex')}`,
    command: parsed.command,
    follow: parsed.follow,
    ...(speakAs === undefined ? {} : { speakAs }),
    ...(workFolder === undefined || !usesWorkFolder(parsed.command) ? {} : { workFolder }),
  };
}

function progressText(event: Extract<CommandEvent, { kind: 'progress' }>): string {
  const text = clean(event.text);
  if (event.done === undefined || event.total === undefined || event.total === 0) return text;
  const inBytes = event.total > 100_000;
  const amount = inBytes ? `${bytesText(event.done)} of ${bytesText(event.total)}` : `${event.done} of ${event.total}`;
  return `${text} (${amount})`;
}

interface Printer {
  /** Takes an event; returns the exit status with the last one. */
  take(event: Exclude<CommandEvent, { kind: 'progress' }>): ExitStatus | undefined;
  fail(error: ErrorRecord): ExitStatus;
}

function textPrinter(parsed: ParsedCommand, context: RunContext): Printer {
  const { output } = context;
  let task = 'task' in parsed.command ? parsed.command.task : undefined;
  const cardContext = (): CardContext => ({ paint: output.paint, columns: columnsMax, nowMs: context.nowMs() });
  let heldTask: unknown;
  const draw = (view: string, data: unknown) => {
    for (const line of renderView(view, data, cardContext())) output.out(line);
  };
  const drawHeld = () => {
    if (heldTask !== undefined) draw('task', heldTask);
  };
  return {
    take(event) {
      if (event.kind === 'log') output.out(renderLogLine(event.line, cardContext()));
      else if (event.kind === 'view' && event.view === 'task') {
        heldTask = event.data;
        task = taskIdOf(event.data) ?? task;
      } else if (event.kind === 'view') draw(event.view, event.data);
      else {
        drawHeld();
        if (event.kind === 'error') return printError(event.error, output);
        // The card has said it already.
        const lines = heldTask === undefined && event.text !== '' ? wrap(clean(event.text), columnsMax) : [];
        for (const line of lines) output.out(output.paint(endTone(event), line));
        return statusOfEnd(event);
      }
      return undefined;
    },
    fail(error) {
      drawHeld();
      if (error.code !== 'cancelled') return printError(error, output);
      output.err(
        task === undefined ? "Left. 'tasks' shows what goes on." : `Left; it goes on. 'watch ${task}' follows it.`,
      );
      return statusOfError(error);
    },
  };
}

function taskIdOf(detail: unknown): string | undefined {
  const task = (detail as { task?: { id?: unknown } } | null)?.task;
  return typeof task?.id === 'string' ? clean(task.id) : undefined;
}

function endTone(event: Extract<CommandEvent, { kind: 'end' }>) {
  if (event.outcome !== 'succeeded') return outcomeTone(event.outcome);
  return event.waitsFor === null ? 'plain' : 'warn';
}

/** One document on standard output: the last view, the log lines, or how the command ended. What is followed comes as one document a line. */
function jsonPrinter(parsed: ParsedCommand, context: RunContext): Printer {
  const { output } = context;
  const streams = 'follow' in parsed.command && parsed.command.follow;
  const print = (document: unknown) => output.out(JSON.stringify(document, null, streams ? 0 : 2));
  let view: unknown;
  const lines: LogLine[] = [];
  return {
    take(event) {
      if (event.kind === 'log' && streams) print(event.line);
      else if (event.kind === 'log') lines.push(event.line);
      else if (event.kind === 'view' && streams) printNotices(event.data, print);
      else if (event.kind === 'view') view = event.data;
      else if (event.kind === 'error') return this.fail(event.error);
      else {
        if (!streams) print(view ?? (parsed.command.name === 'logs' ? { version: 1, lines } : endDocument(event)));
        return statusOfEnd(event);
      }
      return undefined;
    },
    fail(error) {
      print({ version: 1, error });
      return printError(error, output);
    },
  };
}

function printNotices(data: unknown, print: (document: unknown) => void): void {
  for (const notice of check(noticesViewSchema, data, 'notices').notices) print(notice);
}

function endDocument(event: Extract<CommandEvent, { kind: 'end' }>): unknown {
  const { outcome, task, waitsFor, text, revision } = event;
  return { version: 1, outcome, task, waitsFor, text, revision };
}
