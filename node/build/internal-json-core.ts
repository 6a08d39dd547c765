// Owns the reading of Nix's `--log-format internal-json`: numbered activities and messages become log lines, one progress
// figure, and for a failed build the derivation with the end of its log. Anything may stand on these lines; none may throw.

import { stripVTControlCharacters } from 'node:util';
import type { BuildLogLine, BuildProgress } from '../../protocols/build-job.ts';
import { logLineCharactersMax } from '../../protocols/limits.ts';

/** Lines kept of each derivation's log for its failure. */
const tailLinesMax = 20;
const tailLineCharactersMax = 300;
/** Activities at once: Nix runs a few hundred downloads at most. Beyond, the oldest are forgotten. */
const activitiesMax = 4_096;
/** Derivations whose log's end is kept: those that run, and those that failed last. */
const tailsMax = 256;

const prefix = '@nix ';
/** Nix's numbers of activities and results (ActivityType and ResultType in its logging.hh). */
const activity = { builds: 104, build: 105 } as const;
const result = { buildLogLine: 101, progress: 105, postBuildLogLine: 107 } as const;
const levels = ['error', 'warning', 'info', 'info'] as const;

export interface BuildFailure {
  readonly drvPath: string;
  /** What Nix says of it: `failed with exit code 1`. */
  readonly reason: string;
  readonly lastLines: readonly string[];
}

export interface InternalJsonReader {
  /** Takes one line of standard error. */
  push(line: string): void;
  /** The first derivation that failed on its own, where Nix named one. */
  failure(): BuildFailure | undefined;
  /** Nix's messages of level error, without escape sequences. */
  errors(): readonly string[];
}

export interface InternalJsonListeners {
  readonly onLog: (line: BuildLogLine) => void;
  readonly onProgress: (progress: BuildProgress) => void;
}

/** Creates a reader for one run of Nix. */
export function createInternalJsonReader(listeners: InternalJsonListeners): InternalJsonReader {
  const derivations = new Map<number, string>();
  const buildsActivities = new Set<number>();
  const tails = new Map<string, string[]>();
  const errors: string[] = [];
  let failure: { readonly drvPath: string; readonly reason: string } | undefined;

  function log(level: BuildLogLine['level'], text: string, drvPath?: string): void {
    for (const line of text.split('\n')) {
      const cut = line.slice(0, logLineCharactersMax);
      if (cut.trim() !== '')
        listeners.onLog(drvPath === undefined ? { level, text: cut } : { level, text: cut, drvPath });
    }
  }

  function start(record: Fields): void {
    const id = numberOf(record.id);
    const drvPath = textOf(listOf(record.fields)[0]);
    if (record.type === activity.builds) remember(buildsActivities, id);
    if (record.type === activity.build && drvPath.endsWith('.drv')) {
      derivations.set(id, drvPath);
      if (derivations.size > activitiesMax) forgetOldest(derivations);
    }
    const level = numberOf(record.level);
    if (level <= 3 && textOf(record.text) !== '') log('info', stripVTControlCharacters(textOf(record.text)));
  }

  function report(record: Fields): void {
    const id = numberOf(record.id);
    const fields = listOf(record.fields);
    if (record.type === result.progress && buildsActivities.has(id)) {
      const [done = 0, expected = 0, running = 0, failed = 0] = fields.map(countOf);
      listeners.onProgress({ done, expected, running, failed });
    }
    if (record.type !== result.buildLogLine && record.type !== result.postBuildLogLine) return;
    const drvPath = derivations.get(id);
    const text = textOf(fields[0]);
    log('build', text, drvPath);
    if (drvPath !== undefined) keepTail(drvPath, text);
  }

  function keepTail(drvPath: string, text: string): void {
    const tail = tails.get(drvPath) ?? [];
    tail.push(stripVTControlCharacters(text).slice(0, tailLineCharactersMax));
    if (tail.length > tailLinesMax) tail.shift();
    tails.set(drvPath, tail);
    if (tails.size > tailsMax) forgetOldest(tails);
  }

  function message(record: Fields): void {
    const text = textOf(record.msg);
    const plain = stripVTControlCharacters(text);
    const level = levels[numberOf(record.level)] ?? 'debug';
    if (level === 'error') {
      if (errors.length < 50) errors.push(plain);
      failure ??= readFailure(plain);
    }
    log(level, plain);
  }

  return {
    push(line) {
      const record = line.startsWith(prefix) ? parse(line.slice(prefix.length)) : undefined;
      if (record === undefined) {
        if (!line.startsWith(prefix)) log('info', line);
      } else if (record.action === 'start') start(record);
      else if (record.action === 'result') report(record);
      else if (record.action === 'msg') message(record);
      else if (record.action === 'stop') {
        derivations.delete(numberOf(record.id));
        buildsActivities.delete(numberOf(record.id));
      }
    },
    failure: () => (failure === undefined ? undefined : { ...failure, lastLines: tails.get(failure.drvPath) ?? [] }),
    errors: () => errors,
  };
}

/** Two wordings: up to 2.29 in one sentence, from 2.30 on in two lines. Dependents that failed with it do not match. */
function readFailure(message: string): { readonly drvPath: string; readonly reason: string } | undefined {
  const old = /builder for '([^']+\.drv)' (failed[^;\n]*)/.exec(message);
  if (old !== null) return { drvPath: old[1] ?? '', reason: old[2] ?? '' };
  const recent = /Cannot build '([^']+\.drv)'\.\s*\n\s*Reason:\s*(builder [^\n]*)/.exec(message);
  if (recent !== null)
    return { drvPath: recent[1] ?? '', reason: (recent[2] ?? '').replace(/^builder\s+/, '').replace(/\.$/, '') };
  const other = /(?:while building|of derivation|for|build of) '([^']+\.drv)'[:\s]*([^\n]*)/.exec(message);
  if (other === null || /dependenc/.test(message)) return undefined;
  return { drvPath: other[1] ?? '', reason: other[2] || 'failed' };
}

type Fields = Readonly<Record<string, unknown>>;

function parse(text: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Fields) : undefined;
  } catch {
    return undefined;
  }
}

function remember(set: Set<number>, id: number): void {
  set.add(id);
  if (set.size > activitiesMax) for (const oldest of set) return void set.delete(oldest);
}

function forgetOldest(map: Map<unknown, unknown>): void {
  for (const oldest of map.keys()) return void map.delete(oldest);
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function numberOf(value: unknown): number {
  return typeof value === 'number' ? value : -1;
}

function countOf(value: unknown): number {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : 0;
}
